"""What a transaction is made of, and how one ends otherwise than committed. No IO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka import TopicPartition

from logqueue_consumers.transactions.wire import BrokerError
from logqueue_consumers.writing.outgoing import Outgoing


class Membership(NamedTuple):
    """Who commits: the coordinator refuses those whose generation is over (KIP-447)."""

    group: str
    member_id: str
    generation: int
    instance_id: str | None


class Position(NamedTuple):
    """A committed offset with its metadata."""

    offset: int
    metadata: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """Everything that one transaction writes. Records have their partitions."""

    records: Sequence[Outgoing]
    offsets: Mapping[TopicPartition, Position]
    membership: Membership | None
    """None only where there are no offsets."""


class Aborted(Exception):
    """The transaction did not happen."""


class NotMember(Aborted):
    """It did not happen because the group has gone on without this member: partitions are about to be lost."""


class Refused(Aborted):
    """It did not happen because of these records (by place). `is_exact` unless they were refused as a batch."""

    def __init__(self, places: Sequence[int], error: BrokerError, *, is_exact: bool) -> None:
        super().__init__(str(error))
        self.places = places
        self.error = error
        self.is_exact = is_exact


class Uncertain(Exception):
    """Its end was asked for, and no answer can tell any more whether it happened."""
