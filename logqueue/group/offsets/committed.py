"""The committed offsets of all groups, as replayed from the log. Knows nothing of members.

Offsets that a transaction commits are held back until its marker is written: a commit marker makes them count, an abort
marker drops them (KIP-98). Each group lives in one partition of `__consumer_offsets`, and a marker speaks for its own
partition only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import NamedTuple, TypeAlias

from logqueue.group.records import CommittedOffset
from logqueue.ids import TopicPartition

_NONE: dict[TopicPartition, CommittedOffset] = {}
_NOTHING: dict[TopicPartition, dict[int, PendingOffset]] = {}

# A partition of `__consumer_offsets` and a producer id: what a marker names.
TransactionKey: TypeAlias = tuple[int, int]


class PendingOffset(NamedTuple):
    """An offset whose transaction is open; None for one that a later commit has overtaken."""

    key: TransactionKey
    order: int
    committed: CommittedOffset | None


class Offsets:
    """Group -> partition -> committed offset. Changes only by what replay and durable appends call."""

    __slots__ = ("_by_group", "_by_transaction", "_order", "_pending")

    def __init__(self) -> None:
        self._by_group: dict[str, dict[TopicPartition, CommittedOffset]] = {}
        self._pending: dict[str, dict[TopicPartition, dict[int, PendingOffset]]] = {}  # ... -> producer id -> offset
        self._by_transaction: dict[TransactionKey, dict[tuple[str, TopicPartition], None]] = {}
        self._order = count()  # of records in the log: within a partition they are taken in as they stand there

    # Changes

    def apply(self, group_id: str, position: TopicPartition, committed: CommittedOffset | None) -> None:
        """Store or remove one offset. What transactions hold for it is overtaken, or removed with it."""
        if committed is not None:
            self._by_group.setdefault(group_id, {})[position] = committed
            if self._pending:
                self._overtake(group_id, position, next(self._order))
            return
        of_group = self._by_group.get(group_id)
        if of_group is not None:
            of_group.pop(position, None)
            if not of_group:
                del self._by_group[group_id]
        for producer_id in list(self._pending.get(group_id, _NOTHING).get(position, ())):
            self._release(group_id, position, producer_id)

    def hold(self, key: TransactionKey, group_id: str, position: TopicPartition, committed: CommittedOffset) -> None:
        """Keep an offset back until the marker of its transaction."""
        held = PendingOffset(key, next(self._order), committed)
        self._pending.setdefault(group_id, {}).setdefault(position, {})[key[1]] = held
        self._by_transaction.setdefault(key, {})[group_id, position] = None

    def decide(self, key: TransactionKey, *, commit: bool) -> None:
        """The marker of a transaction: its offsets count from now on, as far as they are the newest, or are gone."""
        for group_id, position in list(self._by_transaction.get(key, ())):
            held = self._release(group_id, position, key[1])
            if commit and held.committed is not None:
                self._by_group.setdefault(group_id, {})[position] = held.committed
                self._overtake(group_id, position, held.order)

    def _release(self, group_id: str, position: TopicPartition, producer_id: int) -> PendingOffset:
        of_group = self._pending[group_id]
        held = of_group[position].pop(producer_id)
        if not of_group[position]:
            del of_group[position]
            if not of_group:
                del self._pending[group_id]
        of_transaction = self._by_transaction[held.key]
        del of_transaction[group_id, position]
        if not of_transaction:
            del self._by_transaction[held.key]
        return held

    def _overtake(self, group_id: str, position: TopicPartition, order: int) -> None:
        """An offset counts that stands at `order` in the log: older ones will not, whenever their marker comes."""
        by_producer = self._pending.get(group_id, _NOTHING).get(position)
        for producer_id, held in (by_producer or {}).items():
            if held.order < order:
                assert by_producer is not None
                by_producer[producer_id] = held._replace(committed=None)

    # State

    def get(self, group_id: str, position: TopicPartition) -> CommittedOffset | None:
        """The group's offset of one partition."""
        return self._by_group.get(group_id, _NONE).get(position)

    def of_group(self, group_id: str) -> Mapping[TopicPartition, CommittedOffset]:
        """All offsets of a group that count."""
        return self._by_group.get(group_id, _NONE)

    def is_pending(self, group_id: str, position: TopicPartition) -> bool:
        """Whether an open transaction has an offset of this partition."""
        return position in self._pending.get(group_id, _NOTHING)

    def has_pending(self, group_id: str) -> bool:
        """Whether an open transaction has offsets of the group."""
        return group_id in self._pending

    def positions_of(self, group_id: str) -> list[TopicPartition]:
        """All partitions that the group has an offset of, or an open transaction has for it."""
        stored = self._by_group.get(group_id, _NONE)
        return [*stored, *(p for p in self._pending.get(group_id, _NOTHING) if p not in stored)]

    def groups(self) -> Iterable[str]:
        """Groups that have offsets, or for which an open transaction has some."""
        return self._by_group.keys() | self._pending.keys()
