"""Which places of a partition are taken, and by which job: idempotency keys and unique jobs. No IO, no clock.

A place is a name: an idempotency key, or the chosen arguments of a unique job. The job that takes it holds it until it
ends, and then for a window. What the index writes about places goes into a compacted topic with the outcomes of their
jobs; jobs that are under way need no record, because a worker that takes over meets their records again.

| of a place   | known for                                                                                       |
|--------------|-------------------------------------------------------------------------------------------------|
| a key        | until its job has ended and the window (24 h) after that is over                                |
| a unique job | until its job has ended; with a window until that is over, if the state it ended in holds it     |
| either       | while its job waits in a retry topic until an hour after it was due                            |
| any          | while there are at most `MAX_PLACES` of them in the partition: then the oldest ended ones go     |

Time is that of the jobs' creation, never later than now: a backlog that is worked off late is judged as if in time.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from heapq import heappop, heappush
from typing import Final

import msgspec
from logqueue_schemas.job_status import TERMINAL, State

MAX_PLACES: Final = 100_000
"""Places of one partition; about 500 bytes each."""
MAX_TOMBSTONES: Final = 16
"""Places that are over and leave the log with one outcome."""
AWAY_MARGIN_MS: Final = 3_600_000
"""How long after its due time a replaced job that waits in the retry topic may be late."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a job asks for. `window_ms` None: until the job has ended. `digest` only for keys."""

    place: str
    window_ms: int | None
    lasting: frozenset[str] = frozenset()
    """States after its end in which the job holds the place."""
    digest: str | None = None
    on_conflict: str = "skip"

    @property
    def is_key(self) -> bool:
        """Whether it is an idempotency key, whose window begins when the job has ended."""
        return self.digest is not None


class Claimant(msgspec.Struct, frozen=True, kw_only=True):
    """A job that asks: `topic` and `offset` are those of its first record, `created_ms` is not later than now."""

    id: str
    topic: str
    offset: int
    created_ms: int
    has_begun: bool = False
    """An attempt of it was made before, or an operator sent it round again."""


class Holder(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A job in its place, as the topic keeps it."""

    id: str
    topic: str
    offset: int
    created_ms: int
    state: State = State.QUEUED
    until_ms: int | None = None
    """When the place is free again; None while only the job's end will tell."""
    digest: str | None = None
    away_until_ms: int = 0
    """Until then a replaced job may come back from the retry topic, to be cancelled."""
    is_written: bool = False

    def is_job(self, job: Claimant) -> bool:
        """Whether this is the same submission, not one that only looks like it."""
        return self.offset == job.offset and self.topic == job.topic

    def is_older_than(self, job: Claimant) -> bool:
        """Whether this one came first: by the log where it tells, else by creation."""
        if self.topic == job.topic:
            return self.offset < job.offset
        return self.created_ms <= job.created_ms


class Fate(Enum):
    """What becomes of a job that asks for a place."""

    TAKES = "it holds the place now"
    PASSES = "it goes on without the place: it had begun before another took it"
    SAME = "it is the same job again"
    CONFLICTS = "its key came with other arguments"
    LOSES = "another job holds the place"
    REPLACED = "a later job took its place"


class Judgement(msgspec.Struct, frozen=True):
    """The fate of a job, and the job that decided it, or the one under way whose place it takes."""

    fate: Fate
    holder: Holder | None = None


class Written(msgspec.Struct, frozen=True):
    """A record for the topic: the place, and its holder or None (a tombstone)."""

    place: str
    value: bytes | None


class UniqueIndex:
    """The places of one partition of a queue."""

    def __init__(self, *, max_places: int = MAX_PLACES) -> None:
        self._max_places = max_places
        self._holders: dict[str, Holder] = {}
        self._ends: list[tuple[int, str]] = []
        self._gone: list[str] = []
        """Places to be tombstoned."""
        self._watermark_ms = 0
        self.evicted_count = 0
        """Places that were forgotten early for want of room."""

    def __len__(self) -> int:
        return len(self._holders)

    def holder(self, place: str) -> Holder | None:
        """Who holds a place, or held it last."""
        return self._holders.get(place)

    def load(self, place: str, value: bytes | None) -> None:
        """A record of the topic, in the order of the log. ValueError or RecursionError: none of ours."""
        if value is None:
            self._holders.pop(place, None)
            return
        holder = _decode(value)
        holder.is_written = True
        self._put(place, holder)

    def claim(self, job: Claimant, claims: Iterable[Claim]) -> Judgement:
        """Give the job its places, all or none. Asking again changes nothing."""
        wanted = list(claims)
        if not job.has_begun:
            self._watermark_ms = max(self._watermark_ms, job.created_ms)
            self._forget_ended()
        passes, replaced = False, None
        for claim in wanted:
            holder = self._holders.get(claim.place)
            if holder is None or self._is_free(holder, claim, job):
                continue
            if holder.is_job(job):
                if claim.on_conflict != "replace":
                    holder.away_until_ms = 0  # it is back
                continue
            fate = _fate(job, claim, holder)
            if fate is Fate.PASSES:
                passes = True
            elif fate is not Fate.TAKES:
                return Judgement(fate, holder)
            elif holder.state not in TERMINAL:
                replaced = holder
        if passes:
            return Judgement(Fate.PASSES)
        for claim in wanted:
            self._take(job, claim)
        return Judgement(Fate.TAKES, replaced)

    def override(self, place: str, holder: Holder | None) -> None:
        """What is known better than from the topic."""
        if holder is not None:
            self._put(place, holder)
        else:
            self._holders.pop(place, None)

    def is_replaced(self, job: Claimant, claim: Claim) -> Holder | None:
        """The later job that took the place of one that has not begun, or None."""
        holder = self._holders.get(claim.place)
        return None if holder is None or holder.is_job(job) or holder.is_older_than(job) else holder

    def ended(
        self, job: Claimant, claims: Iterable[Claim], state: State, *, at_ms: int, due_ms: int | None
    ) -> list[Written]:
        """The job's record is finished in this state; what is to be written with that outcome."""
        written: list[Written] = []
        for claim in claims:
            holder = self._holders.get(claim.place)
            if holder is None or not holder.is_job(job):
                continue
            holder.state = state
            if state not in TERMINAL:
                # Its record goes on in another topic: whoever takes over may meet a rival first.
                holder.until_ms = None if claim.is_key else holder.until_ms
                holder.away_until_ms = max(holder.away_until_ms, (due_ms or at_ms) + AWAY_MARGIN_MS)
                written.append(self._write(claim.place, holder))
            else:
                written += self._let_go(claim, holder, at_ms)
        places, self._gone = self._gone[:MAX_TOMBSTONES], self._gone[MAX_TOMBSTONES:]
        written += [Written(place, None) for place in places if place not in self._holders]
        return written

    def _let_go(self, claim: Claim, holder: Holder, at_ms: int) -> list[Written]:
        place = claim.place
        if claim.is_key:
            assert claim.window_ms is not None, "keys have a window"
            holder.until_ms = at_ms + claim.window_ms
        elif holder.state not in claim.lasting or holder.until_ms is None:
            holder.until_ms = at_ms
        if claim.on_conflict != "replace":
            holder.away_until_ms = 0
        if max(holder.until_ms, holder.away_until_ms) > at_ms:
            self._put(place, holder)
            return [self._write(place, holder)]
        del self._holders[place]
        return [Written(place, None)] if holder.is_written else []

    def _is_free(self, holder: Holder, claim: Claim, job: Claimant) -> bool:
        """Whether the place is free for a later job; an earlier one never takes it from a later one."""
        if holder.is_job(job) or not holder.is_older_than(job):
            return False
        if 0 < holder.away_until_ms <= job.created_ms and holder.state not in TERMINAL:
            return True  # it was cancelled where it waited, or is lost
        if holder.until_ms is None:
            return False
        return job.created_ms >= holder.until_ms or (
            holder.state in TERMINAL and not claim.is_key and holder.state not in claim.lasting
        )

    def _take(self, job: Claimant, claim: Claim) -> None:
        before = self._holders.get(claim.place)
        if before is not None and before.is_job(job):
            return
        until_ms = None if claim.is_key or claim.window_ms is None else job.created_ms + claim.window_ms
        holder = Holder(
            id=job.id,
            topic=job.topic,
            offset=job.offset,
            created_ms=job.created_ms,
            until_ms=until_ms,
            digest=claim.digest,
            away_until_ms=0 if before is None else before.away_until_ms,
            is_written=before is not None and before.is_written,
        )
        self._put(claim.place, holder)
        if len(self._holders) > self._max_places:
            self._evict()

    def _put(self, place: str, holder: Holder) -> None:
        self._holders[place] = holder
        if holder.until_ms is not None:
            heappush(self._ends, (max(holder.until_ms, holder.away_until_ms), place))
        if len(self._ends) > 2 * len(self._holders) + 64:
            self._ends = [
                (max(holder.until_ms, holder.away_until_ms), place)
                for place, holder in self._holders.items()
                if holder.until_ms is not None
            ]
            self._ends.sort()

    def _forget_ended(self) -> None:
        """Drop what is over, some at a time."""
        for _ in range(MAX_TOMBSTONES):
            if not self._ends or self._ends[0][0] > self._watermark_ms:
                return
            end_ms, place = heappop(self._ends)
            holder = self._holders.get(place)
            if holder is None or holder.until_ms is None or max(holder.until_ms, holder.away_until_ms) != end_ms:
                continue
            if holder.state in TERMINAL:
                self._drop(place)
            # A job that outlives its window holds nothing, but its own end must find it.

    def _evict(self) -> None:
        """Make room: the place that would be free next, or else the oldest."""
        self.evicted_count += 1
        while self._ends:
            _, place = heappop(self._ends)
            if place in self._holders and self._holders[place].until_ms is not None:
                self._drop(place)
                return
        self._drop(next(iter(self._holders)))

    def _drop(self, place: str) -> None:
        if self._holders.pop(place).is_written:
            self._gone.append(place)

    def _write(self, place: str, holder: Holder) -> Written:
        holder.is_written = True
        return Written(place, _encode(holder))


def _fate(job: Claimant, claim: Claim, holder: Holder) -> Fate:
    """What becomes of a job whose place is held by another."""
    if claim.is_key:
        if job.has_begun:
            return Fate.PASSES
        return Fate.SAME if holder.digest == claim.digest else Fate.CONFLICTS
    if claim.on_conflict == "replace":
        return Fate.TAKES if holder.is_older_than(job) else Fate.REPLACED
    return Fate.PASSES if job.has_begun else Fate.LOSES


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Holder).decode
