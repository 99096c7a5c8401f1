"""What a broker was asked for and what it promised, moment by moment: the measure of every restart. Knows no disk.

`Promises.apply` takes the events of a `Life` in order. What was asked for and not answered yet may have happened or
not; what was answered has happened and stays.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from logqueue.ids import TopicPartition

FAR = 1 << 62
"""An offset that no log reaches."""


class Creating(NamedTuple):
    topic: str
    partitions: int
    properties: dict[str, str]
    compacted: bool


class Created(NamedTuple):
    topic: str
    topic_id: bytes


class Deleting(NamedTuple):
    topic: str


class Deleted(NamedTuple):
    topic: str


class Altering(NamedTuple):
    topic: str
    name: str
    value: str


class Altered(NamedTuple):
    topic: str


class Growing(NamedTuple):
    topic: str
    partitions: int


class Grown(NamedTuple):
    topic: str


class Sending(NamedTuple):
    """Records on their way; `transaction` is the number of the one they belong to, 0 for none."""

    partition: TopicPartition
    values: tuple[bytes, ...]
    key: bytes | None = None
    producer_id: int = -1
    epoch: int = -1
    sequence: int = -1
    transaction: int = 0


class Acked(NamedTuple):
    """The `number`-th sending to a partition (from 1) is promised, at `base_offset`, and all before it with it."""

    partition: TopicPartition
    number: int
    base_offset: int


class Refusal(NamedTuple):
    """The `number`-th sending to a partition was refused: it may be there or not, whatever follows it."""

    partition: TopicPartition
    number: int


class DeletingRecords(NamedTuple):
    partition: TopicPartition
    offset: int


class Committing(NamedTuple):
    """`transaction` is the number of the one that carries the commit, 0 for none."""

    group: str
    partition: TopicPartition
    offset: int
    transaction: int = 0


class Committed(NamedTuple):
    group: str
    partition: TopicPartition


class Member(NamedTuple):
    """A member has been told its place in a generation (classic) or its epoch (KIP-848)."""

    group: str
    member_id: str
    generation: int
    is_consumer_protocol: bool = False


class GivenProducerId(NamedTuple):
    producer_id: int
    epoch: int
    transactional_id: str | None = None


class Beginning(NamedTuple):
    transaction: int
    transactional_id: str


class Ending(NamedTuple):
    transaction: int
    commit: bool


class Ended(NamedTuple):
    transaction: int


class Fenced(NamedTuple):
    """A new producer has taken the transactional id: if the transaction was not ended by then, it is aborted."""

    transaction: int


Event: TypeAlias = (
    Creating | Created | Deleting | Deleted | Altering | Altered | Growing | Grown | Sending | Acked | Refusal
    | DeletingRecords | Committing | Committed | Member | GivenProducerId | Beginning | Ending | Ended | Fenced
)  # fmt: skip


@dataclass
class LogPromise:
    """One partition: every record sent in order, and how many of them are promised."""

    sent: list[Sending] = field(default_factory=list)
    safe: int = 0  # of `sent`
    offsets: dict[int, bytes] = field(default_factory=dict)  # promised places
    start_at_most: int = 0  # records below may be deleted
    refused: set[bytes] = field(default_factory=set)  # values

    @property
    def values(self) -> list[bytes]:
        return [value for sending in self.sent for value in sending.values]

    @property
    def safe_values(self) -> list[bytes]:
        values = (value for sending in self.sent[: self.safe] for value in sending.values)
        return [value for value in values if value not in self.refused]


@dataclass
class TopicPromise:
    """One topic; `is_certain` is False while it is being created or deleted."""

    name: str
    compacted: bool
    partitions: set[int]  # numbers it may have
    properties: list[dict[str, str]]  # sets of properties it may have
    is_certain: bool = False
    topic_id: bytes | None = None
    logs: dict[int, LogPromise] = field(default_factory=dict)


@dataclass
class OffsetPromise:
    """Commits of one position in order, with their transactions; those before `first` are overwritten for certain."""

    commits: list[Committing] = field(default_factory=list)
    first: int | None = None  # None: nothing was promised, so there may be none


@dataclass
class TransactionPromise:
    """What becomes of a transaction: `outcome` True is commit, else abort; it is certain once it `is_ended`."""

    transactional_id: str
    outcome: bool | None = None
    is_ended: bool = False


@dataclass
class Promises:
    topics: dict[str, TopicPromise] = field(default_factory=dict)
    gone: dict[str, TopicPromise | None] = field(default_factory=dict)  # deleted, and not asked for since
    offsets: dict[tuple[str, TopicPartition], OffsetPromise] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)  # by group
    producer_ids: set[int] = field(default_factory=set)
    epochs: dict[str, tuple[int, int]] = field(default_factory=dict)  # by transactional id: producer id, epoch
    transactions: dict[int, TransactionPromise] = field(default_factory=dict)
    changes: int = 0

    def apply(self, event: Event) -> None:
        self.changes += 1
        match event:
            case Creating(name, partitions, properties, compacted):
                self.gone.pop(name, None)
                self.topics[name] = TopicPromise(name, compacted, {partitions}, [properties])
            case Created(name, topic_id):
                self.topics[name].is_certain = True
                self.topics[name].topic_id = topic_id
            case Deleting(name):
                self.topics[name].is_certain = False
            case Deleted(name):
                self.gone[name] = self.topics.pop(name)
                # Commits for the topic go with it, by records that nobody waits for.
                for (_, partition), promise in self.offsets.items():
                    if partition.topic == name:
                        promise.first = None
            case Altering(name, key, value):
                topic = self.topics[name]
                topic.properties += [{**before, key: value} for before in topic.properties]
            case Altered(name):
                topic = self.topics[name]
                del topic.properties[: len(topic.properties) // 2]
            case Growing(name, count):
                self.topics[name].partitions.add(count)
            case Grown(name):
                topic = self.topics[name]
                topic.partitions = {max(topic.partitions)}
            case _:
                self._apply_to_a_client(event)

    def _apply_to_a_client(self, event: Event) -> None:
        match event:
            case GivenProducerId(producer_id, epoch, transactional_id):
                self.producer_ids.add(producer_id)
                if transactional_id is not None:
                    self.epochs[transactional_id] = (producer_id, epoch)
            case Member(group):
                self.members[group] = event
            case Beginning(transaction, transactional_id):
                self.transactions[transaction] = TransactionPromise(transactional_id)
            case Ending(transaction, commit):
                self.transactions[transaction].outcome = commit
            case Ended(transaction):
                self.transactions[transaction].is_ended = True
            case Fenced(transaction):
                promise = self.transactions[transaction]
                promise.is_ended = promise.outcome is not True  # one that was being committed may be
            case _:
                self._apply_to_a_position(event)

    def _apply_to_a_position(self, event: Event) -> None:
        match event:
            case Sending(partition):
                self.log(partition).sent.append(event)
            case Acked(partition, number, base_offset):
                log = self.log(partition)
                log.safe = max(log.safe, number)
                for offset, value in enumerate(log.sent[number - 1].values, base_offset):
                    log.offsets[offset] = value
            case Refusal(partition, number):
                log = self.log(partition)
                log.refused.update(log.sent[number - 1].values)
            case DeletingRecords(partition, offset):
                log = self.log(partition)
                log.start_at_most = max(log.start_at_most, offset)
            case Committing(group, partition):
                self.offsets.setdefault((group, partition), OffsetPromise()).commits.append(event)
            case Committed(group, partition):
                promise = self.offsets[group, partition]
                promise.first = len(promise.commits) - 1
            case _:
                raise AssertionError(event)

    def log(self, partition: TopicPartition) -> LogPromise:
        return self.topics[partition.topic].logs.setdefault(partition.partition, LogPromise())

    def unsecured(self) -> Promises:
        """The same life with nothing promised: whatever is found must have been asked for once, in that order."""
        copy = deepcopy(self)
        copy.gone.clear()
        copy.members.clear()
        copy.producer_ids.clear()
        copy.epochs.clear()
        copy.transactions.clear()
        for topic in copy.topics.values():
            topic.is_certain = False
            for log in topic.logs.values():
                log.safe, log.offsets, log.start_at_most = 0, {}, FAR
        for offset in copy.offsets.values():
            offset.first = None
        return copy
