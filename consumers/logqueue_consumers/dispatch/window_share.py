"""How tenants share the window of a partition: what of a flood is put aside and read again later. No IO, no clock.

A worker has a bounded number of a partition's records in hand. A tenant that floods the partition, or whose jobs may
not run (a limit, a pause), would fill it, and nobody behind it would ever be read. So no tenant has more than its share
in hand: further records of it are put aside - passed over, unfinished, out of memory - and the partition is read again
from the first of them when the tenant has room. That moves no record and writes nothing; a tenant with records aside
gets no newer one before them, so its order holds; whoever takes the partition over finds what is aside unfinished
in the commit, like anything else. The bound is the offset map: it holds about 270 runs of offsets put aside of any
length, or any pattern within 18,000 offsets; when it is full, reading waits for the tenants at its head.

    FRONT   reads what nobody has seen yet, in slices, at most `AHEAD_PER_S` records a second that end up aside
    BACK    reads again from the first record aside of a tenant that has room, and waits there for more
"""

from __future__ import annotations

from collections.abc import Hashable

AHEAD_PER_S = 32_768.0
"""Looking ahead over a flood costs about 3 us a record now and again when it is read again."""
AHEAD_BURST = 8_192.0
FRONT_EVERY_S = 0.25
"""New records are looked at this often while records aside are read again."""
FRONT_FOR_S = 0.05
BACK_WAIT_S = 0.03
"""Tenants without room are waited for so long, while records are read again: two flushes of short jobs. Of longer jobs
there is no room for long, and others would wait for new records to be looked at."""
BARREN_S = 1.0
"""After reading again for nothing (all of it is blocked still) the next try waits this long."""
MIN_STALLED = 64
"""Jobs of a tenant in hand that may not run at the moment."""


class WindowShare:
    """The share of each tenant of one partition. `keeps_order` when a tenant's jobs must be read in order."""

    __slots__ = (
        "_ahead",
        "_ahead_at_s",
        "_aside",
        "_back_at_s",
        "_back_count",
        "_back_moved_s",
        "_counts",
        "_front_at_s",
        "_front_since_s",
        "_limit",
        "_of_tenant",
        "_refused",
        "_since",
        "_stalled",
        "_stalled_limit",
        "is_back",
        "keeps_order",
        "read_to",
        "reading_from",
        "step",
    )

    def __init__(self, *, limit: int, since: int, keeps_order: bool, now_s: float) -> None:
        """`limit` is the window of the partition in records; those below the offset `since` are not counted."""
        self.keeps_order = keeps_order
        self.is_back = False
        self.reading_from = since
        """Where the present reading began."""
        self.read_to = since
        """How far records have been read again, every one looked at."""
        self._since = since
        self.step = max(1, limit // 32)
        """Records taken between two looks at who has room, for as many."""
        self._limit = limit
        self._of_tenant = max(MIN_STALLED, limit // 4)
        self._stalled_limit = max(MIN_STALLED, limit // 4)
        self._counts: dict[str, int] = {}
        """Records in hand by tenant."""
        self._stalled: set[Hashable] = set()
        """Offsets in hand that were blocked when they came."""
        self._aside: dict[str, tuple[int, int]] = {}
        """By tenant: how many records are aside, and an offset that none of them lies below."""
        self._ahead = AHEAD_BURST
        self._ahead_at_s = now_s
        self._front_at_s = now_s
        self._front_since_s = now_s
        self._back_at_s = now_s
        self._back_moved_s = now_s
        self._back_count = 0
        self._refused: set[str] = set()
        """Tenants of which the present reading of what is aside has left out a record."""

    # --- records ---

    def admits(self, tenant: str, *, is_blocked: bool) -> bool:
        """Whether one more record of the tenant may be in hand (a new one, or with `is_back` one that was aside)."""
        if self.keeps_order and tenant in self._aside and not self._is_next(tenant):
            return False
        count = self._counts.get(tenant, 0)
        if is_blocked:
            has_room = count < MIN_STALLED and len(self._stalled) < self._stalled_limit
        else:
            has_room = count < self._of_tenant
        if self.is_back and not has_room:
            self._refused.add(tenant)
        return has_room

    def came(self, tenant: str, offset: int, *, is_blocked: bool) -> None:
        """The record is in hand."""
        self._counts[tenant] = self._counts.get(tenant, 0) + 1
        if is_blocked:
            self._stalled.add(offset)

    def put_aside(self, tenant: str, offset: int) -> None:
        """A new record is put aside."""
        count, first = self._aside.get(tenant, (0, offset))
        self._aside[tenant] = (count + 1, first)
        self._ahead -= 1.0

    def came_again(self, tenant: str, offset: int, *, is_blocked: bool) -> None:
        """A record that was aside is in hand."""
        count, first = self._aside[tenant]
        if count == 1:
            del self._aside[tenant]
        else:
            # What this reading has left out, or began behind, is still aside.
            is_in_order = tenant not in self._refused and first >= self.reading_from
            self._aside[tenant] = (count - 1, offset + 1 if is_in_order else first)
        self._back_count += 1
        self.came(tenant, offset, is_blocked=is_blocked)

    def finished(self, tenant: str, offset: int) -> None:
        """The record is no longer in hand."""
        if offset < self._since:
            return
        count = self._counts.get(tenant, 0) - 1
        if count > 0:
            self._counts[tenant] = count
        else:
            self._counts.pop(tenant, None)
        if self._stalled:
            self._stalled.discard(offset)

    def _is_next(self, tenant: str) -> bool:
        """Only what is read from the tenant's first record aside on, without a gap, is in order."""
        return self.is_back and tenant not in self._refused and self._aside[tenant][1] >= self.reading_from

    @property
    def lacks_room(self) -> bool:
        """Whether a tenant has records aside because of those in hand, and not because they may not run."""
        return any(self._counts.get(tenant, 0) > MIN_STALLED for tenant in self._aside)

    # --- what to read ---

    def may_look_ahead(self, now_s: float) -> bool:
        """Whether new records may be put aside now; where none is aside there is nothing to bound."""
        self._ahead = min(AHEAD_BURST, self._ahead + (now_s - self._ahead_at_s) * AHEAD_PER_S)
        self._ahead_at_s = now_s
        return self._ahead >= 1.0

    def back_from(self, now_s: float) -> int | None:
        """Where to read again: the first record aside of a tenant that has room; None when there is none."""
        if now_s < self._back_at_s:
            return None
        self._divide()
        low, counts = self._of_tenant // 2, self._counts
        firsts = [first for tenant, (_, first) in self._aside.items() if _has_room(counts.get(tenant, 0), low)]
        return min(firsts, default=None)

    def goes_on_back(self, now_s: float) -> bool:
        """Whether a tenant with records aside has room for a step."""
        self._divide()
        most, counts = self._of_tenant - self.step, self._counts
        if not any(_has_room(counts.get(tenant, 0), most) for tenant in self._aside):
            return False
        self._back_moved_s = now_s
        return True

    def may_wait_back(self, now_s: float) -> bool:
        """Whether those may be waited for that have no room: nobody was passed over, and new records are not due."""
        is_due = now_s >= self._front_at_s or now_s - self._back_moved_s >= BACK_WAIT_S
        return bool(self._aside) and not self._refused and not is_due

    def stays_back(self, now_s: float) -> bool:
        """Whether reading again goes on, or is waited with."""
        return now_s < self._front_at_s and (self.goes_on_back(now_s) or self.may_wait_back(now_s))

    def turn(self, high: int, now_s: float, *, has_front_room: bool) -> int | None:
        """What to read next, `high` being the first new offset: the offset to seek to, None to go on as before."""
        if self.is_back:
            is_due = has_front_room and now_s >= self._front_at_s
            if (self.goes_on_back(now_s) and not is_due) or self.may_wait_back(now_s):
                return None
            return self._to_front(high, now_s)
        back = self.back_from(now_s)
        if back is None or (has_front_room and now_s - self._front_since_s < FRONT_FOR_S):
            return None
        self.is_back = True
        self._back_count = 0
        self._refused.clear()
        self._front_at_s = now_s + FRONT_EVERY_S
        self.reading_from = self.read_to = back
        return back

    def reached_front(self, high: int, now_s: float) -> int:
        """Everything aside was read again: the offset to seek to."""
        return self._to_front(high, now_s)

    def commands_changed(self) -> None:
        """What was blocked may not be any more."""
        self._back_at_s = 0.0
        self._stalled.clear()

    def _to_front(self, high: int, now_s: float) -> int:
        for tenant, (count, first) in self._aside.items():
            if tenant not in self._refused and self.reading_from <= first < self.read_to:
                self._aside[tenant] = (count, self.read_to)  # none of it lies before: the next reading begins there
                self._back_count += 1
        self.is_back = False
        self.reading_from = high
        self._front_since_s = now_s
        if not self._back_count:
            self._back_at_s = now_s + BARREN_S
        return high

    def _divide(self) -> None:
        """A quarter for each tenant; one that is alone may have half as much again, and leaves room for who comes."""
        eighths = 3 if max(len(self._counts), len(self._aside)) <= 1 else 2
        self._of_tenant = max(MIN_STALLED, self._limit * eighths // 8)


def _has_room(count: int, most: int) -> bool:
    """With so many in hand; those of a tenant with about MIN_STALLED may not run."""
    return count <= min(most, MIN_STALLED // 2) or MIN_STALLED < count <= most
