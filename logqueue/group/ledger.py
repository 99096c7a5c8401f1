"""Effects as they come about, and the appends whose outcome is not known yet. Knows nothing of requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple, TypeAlias

from logqueue.coordination.effects import Append, Caller, Effect, Now, Producer, Reply
from logqueue.coordination.partitioning import partition_of
from logqueue.errors import ErrorCode
from logqueue.group.records import Change, encode
from logqueue.protocol.schema import Message

# What follows an append: called with ErrorCode.NONE when it is durable, else with why it is not.
Outcome: TypeAlias = Callable[[ErrorCode, Now], None]


class Pending(NamedTuple):
    """An append under way: whose it is, what it changes once durable, and what follows."""

    group_id: str
    changes: tuple[Change, ...]
    then: Outcome
    producer: Producer | None


class Ledger:
    """Collects the effects of one call, and remembers every append until the shell reports its outcome."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._effects: list[Effect] = []
        self._pending: dict[int, Pending] = {}
        self._under_way: Counter[str] = Counter()  # appends under way, by group
        self._waiting: dict[str, list[Callable[[Now], None]]] = {}
        self._tickets = count(1)

    def reply(self, caller: Caller, response: Message) -> None:
        """Answer now."""
        self._effects.append(Reply(caller.token, response))

    def append(
        self, group_id: str, changes: tuple[Change, ...], then: Outcome, *, producer: Producer | None = None
    ) -> None:
        """Write the changes of one group; they hold, and `then` runs, when the shell reports the outcome.

        Those of a `producer` are offsets, and wait for the end of its transaction.
        """
        ticket = next(self._tickets)
        self._pending[ticket] = Pending(group_id, changes, then, producer)
        self._under_way[group_id] += 1
        records = tuple(encode(change) for change in changes)
        self._effects.append(Append(ticket, partition_of(group_id, self._partitions), records, producer))

    def is_busy(self, group_id: str) -> bool:
        """Whether an append of the group is under way."""
        return group_id in self._under_way

    def changes_under_way(self) -> Iterator[Change]:
        """What the appends under way change, oldest first."""
        return (change for pending in self._pending.values() for change in pending.changes)

    def when_idle(self, group_id: str, now: Now, action: Callable[[Now], None]) -> None:
        """Run `action` as soon as the group has no append under way; at once when it has none."""
        if self.is_busy(group_id):
            self._waiting.setdefault(group_id, []).append(action)
        else:
            action(now)

    def take(self, ticket: int) -> Pending:
        """The append behind a ticket, now settled. An unknown ticket is a defect of the shell."""
        pending = self._pending.pop(ticket)
        self._under_way[pending.group_id] -= 1
        if not self._under_way[pending.group_id]:
            del self._under_way[pending.group_id]
        return pending

    def release(self, group_id: str, now: Now) -> None:
        """Run what waited for the group to be idle, as far as it stays so."""
        while not self.is_busy(group_id) and (waiting := self._waiting.get(group_id)):
            action = waiting.pop(0)
            if not waiting:
                del self._waiting[group_id]
            action(now)

    def drain(self) -> list[Effect]:
        """The effects since the last call, in order."""
        effects, self._effects = self._effects, []
        return effects
