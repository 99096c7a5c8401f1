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


class Turns:
    """The turns of all groups."""

    __slots__ = ("_ledger", "_waiting")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
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
            then(error, now)
            while waiting:
                if group_id in self._waiting:  # a turn writes again: the others keep their order before newcomers
                    self._waiting[group_id].extendleft(reversed(waiting))
                    return
                waiting.popleft()(now)

        self._ledger.append(group_id, changes, settle)
