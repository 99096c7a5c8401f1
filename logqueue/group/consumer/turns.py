"""One change of a consumer group at a time: who comes while one is being written waits for its turn.

A consumer group (KIP-848) is what its durable records say, so the next request can be judged only when the last one's
records are durable or lost. Requests of other groups, and commits of offsets, do not wait. What waits is bounded by
the unanswered requests of the connections (`queued.max.requests`) and by one deadline of each kind for each member.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from logqueue.coordination.effects import Now
from logqueue.errors import ErrorCode
from logqueue.group.ledger import Ledger, Outcome
from logqueue.group.records import Change

Turn: TypeAlias = Callable[[Now], None]
OnBug: TypeAlias = Callable[[Exception], None]


def raise_bug(error: Exception) -> None:
    """What a machine does with a bug where nobody else wants to hear of it."""
    raise error


class Turns:
    """The turns of all groups. An exception that nobody foresaw goes to `on_bug`: others wait behind its turn."""

    __slots__ = ("_ledger", "_on_bug", "_waiting")

    def __init__(self, ledger: Ledger, *, on_bug: OnBug = raise_bug) -> None:
        self._ledger = ledger
        self._on_bug = on_bug
        self._waiting: dict[str, deque[Turn]] = {}  # groups with a change under way, and who waits for its end

    def is_taken(self, group_id: str) -> bool:
        """Whether a change of the group is being written."""
        return group_id in self._waiting

    def take(self, group_id: str, now: Now, turn: Turn) -> None:
        """Run `turn` now, or as soon as everybody before it is done."""
        waiting = self._waiting.get(group_id)
        if waiting is None:
            turn(now)
        else:
            waiting.append(turn)

    def append(self, group_id: str, changes: tuple[Change, ...], then: Outcome) -> None:
        """Write changes of the group in the present turn, which lasts until `then` has run."""
        assert group_id not in self._waiting, f"two changes of group {group_id} at once"
        self._waiting[group_id] = deque()

        def settle(error: ErrorCode, now: Now) -> None:
            waiting = self._waiting.pop(group_id)
            try:
                then(error, now)
            except Exception as bug:
                self._on_bug(bug)
            while waiting:
                if group_id in self._waiting:  # a turn writes again: the others keep their order before newcomers
                    self._waiting[group_id].extendleft(reversed(waiting))
                    return
                turn = waiting.popleft()
                try:
                    turn(now)
                except Exception as bug:
                    self._on_bug(bug)

        self._ledger.append(group_id, changes, settle)
