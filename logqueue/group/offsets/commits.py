"""OffsetCommit and TxnOffsetCommit: where a group stands from now on, or from the end of a transaction on.

A commit is seen by OffsetFetch only once its record is durable; one whose append failed was never there. A
transactional one is seen once the commit marker of its transaction is durable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from logqueue.config import LONG_MAX, BrokerConfig
from logqueue.coordination.effects import Caller, Now, Producer
from logqueue.coordination.topics import Topics
from logqueue.errors import ErrorCode, KafkaError
from logqueue.group.classic.group import ClassicGroup
from logqueue.group.classic.rebalance import Rebalance
from logqueue.group.ledger import Ledger
from logqueue.group.records import NO_EXPIRY, CommittedOffset, OffsetChange, is_storable
from logqueue.ids import TopicPartition
from logqueue.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from logqueue.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)

if TYPE_CHECKING:
    from logqueue.group.consumer.group import ConsumerGroup

TOPIC_IDS_SINCE = 10
GROUP_ID_NOT_FOUND_SINCE = 9  # before, an unknown group was told as an illegal generation

AskedPartition: TypeAlias = OffsetCommitRequestPartition | TxnOffsetCommitRequestPartition
AnsweredPartition: TypeAlias = OffsetCommitResponsePartition | TxnOffsetCommitResponsePartition

# What a commit asks for and the place of its answer, by partition.
Storable: TypeAlias = dict[TopicPartition, tuple[AskedPartition, AnsweredPartition]]


class Commits:
    """Answers OffsetCommit when the offsets are durable."""

    def __init__(
        self,
        groups: dict[str, ClassicGroup],
        consumer_groups: Mapping[str, ConsumerGroup],
        *,
        config: BrokerConfig,
        ledger: Ledger,
        rebalance: Rebalance,
        topics: Topics,
    ) -> None:
        self._groups = groups
        self._consumer_groups = consumer_groups
        self._metadata_limit = config.offset_metadata_max_bytes
        self._ledger = ledger
        self._rebalance = rebalance
        self._topics = topics

    def commit(self, request: OffsetCommitRequest, *, caller: Caller, now: Now) -> None:
        """Store what can be stored; partitions that do not exist and metadata too long fail alone."""
        response, named = self._sort(request, caller)
        storable: Storable = {}
        if named:
            refusal = self._refusal(request, caller, now)
            _mark(named, refusal)
            if refusal is ErrorCode.NONE:
                storable = self._without_long_metadata(named)
        if not storable:
            self._ledger.reply(caller, response)
            return
        expire_time_ms = NO_EXPIRY
        if request.retention_time_ms >= 0:
            expire_time_ms = min(now.time_ms + request.retention_time_ms, LONG_MAX)
        changes = tuple(
            OffsetChange(request.group_id, position, _committed(partition, now, expire_time_ms))
            for position, (partition, _) in storable.items()
        )

        def settle(error: ErrorCode, _: Now) -> None:
            _mark(storable, error)
            self._ledger.reply(caller, response)

        self._ledger.append(request.group_id, changes, settle)

    def commit_in_transaction(
        self, request: TxnOffsetCommitRequest, *, verified: ErrorCode, caller: Caller, now: Now
    ) -> None:
        """Hold the offsets back for the end of the producer's transaction.

        `verified` is what the transaction coordinator says: NONE, or why the producer may not commit here.
        """
        response, named = self._sort_transactional(request)
        storable: Storable = {}
        if named:
            refusal = verified or self._transactional_refusal(request)
            _mark(named, refusal)
            if refusal is ErrorCode.NONE:
                storable = self._without_long_metadata(named)
        if not storable:
            self._ledger.reply(caller, response)
            return
        changes = tuple(
            OffsetChange(request.group_id, position, _committed(partition, now, NO_EXPIRY))
            for position, (partition, _) in storable.items()
        )

        def settle(error: ErrorCode, _: Now) -> None:
            _mark(storable, error)
            self._ledger.reply(caller, response)

        producer = Producer(request.producer_id, request.producer_epoch)
        self._ledger.append(request.group_id, changes, settle, producer=producer)

    def _sort_transactional(self, request: TxnOffsetCommitRequest) -> tuple[TxnOffsetCommitResponse, Storable]:
        response = TxnOffsetCommitResponse()
        named: Storable = {}
        for topic in request.topics:
            answer = TxnOffsetCommitResponseTopic(name=topic.name)
            response.topics.append(answer)
            for partition in topic.partitions:
                answered = TxnOffsetCommitResponsePartition(partition_index=partition.partition_index)
                answer.partitions.append(answered)
                if self._topics.has_partition(topic.name, partition.partition_index):
                    named[TopicPartition(topic.name, partition.partition_index)] = (partition, answered)
                else:
                    answered.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return response, named

    def _transactional_refusal(self, request: TxnOffsetCommitRequest) -> ErrorCode:
        """Whether this caller may commit now. Whoever names no member and no generation is believed (KIP-447)."""
        consumer_group = self._consumer_groups.get(request.group_id)
        if consumer_group is not None:
            return _transactional_consumer_refusal(consumer_group, request)
        group = self._groups.get(request.group_id)
        if group is None:
            if not request.group_id or not is_storable(request.group_id):
                return ErrorCode.INVALID_GROUP_ID
            return ErrorCode.NONE if request.generation_id < 0 else ErrorCode.ILLEGAL_GENERATION
        try:
            group.check_transactional_commit(
                member_id=request.member_id, instance_id=request.group_instance_id, generation=request.generation_id
            )
        except KafkaError as error:
            return error.code
        return ErrorCode.NONE

    def _sort(self, request: OffsetCommitRequest, caller: Caller) -> tuple[OffsetCommitResponse, Storable]:
        """The answer with partitions that do not exist marked in it, and those that do."""
        response = OffsetCommitResponse()
        named: Storable = {}
        for topic in request.topics:
            name = self._topics.name_of(topic.topic_id) if caller.version >= TOPIC_IDS_SINCE else topic.name
            answer = OffsetCommitResponseTopic(name=topic.name, topic_id=topic.topic_id)
            response.topics.append(answer)
            for partition in topic.partitions:
                answered = OffsetCommitResponsePartition(partition_index=partition.partition_index)
                answer.partitions.append(answered)
                if name is None:
                    answered.error_code = ErrorCode.UNKNOWN_TOPIC_ID
                elif not self._topics.has_partition(name, partition.partition_index):
                    answered.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                else:
                    named[TopicPartition(name, partition.partition_index)] = (partition, answered)
        return response, named

    def _without_long_metadata(self, named: Storable) -> Storable:
        storable: Storable = {}
        for position, (partition, answered) in named.items():
            metadata = partition.committed_metadata or ""
            if _length(metadata) > self._metadata_limit or not is_storable(metadata):
                answered.error_code = ErrorCode.OFFSET_METADATA_TOO_LARGE
            else:
                storable[position] = (partition, answered)
        return storable

    def _refusal(self, request: OffsetCommitRequest, caller: Caller, now: Now) -> ErrorCode:
        """Whether this caller may commit now; if so, its commit is a sign of life."""
        generation = request.generation_id_or_member_epoch
        consumer_group = self._consumer_groups.get(request.group_id)
        if consumer_group is not None:
            return _consumer_refusal(consumer_group, request, caller)
        group = self._groups.get(request.group_id)
        if group is None:
            if not is_storable(request.group_id):
                return ErrorCode.INVALID_GROUP_ID
            if generation < 0:
                return ErrorCode.NONE  # a simple group: it comes to be when its first commit is durable
            is_told = caller.version >= GROUP_ID_NOT_FOUND_SINCE
            return ErrorCode.GROUP_ID_NOT_FOUND if is_told else ErrorCode.ILLEGAL_GENERATION
        try:
            group.check_commit(
                member_id=request.member_id, instance_id=request.group_instance_id, generation=generation
            )
        except KafkaError as error:
            return error.code
        member = group.members.get(request.member_id)
        if member is not None and group.keeps_session_on_commit:
            self._rebalance.keep_session(group, member, now)
        return ErrorCode.NONE


def _consumer_refusal(group: ConsumerGroup, request: OffsetCommitRequest, caller: Caller) -> ErrorCode:
    """Whether a member of a consumer group may commit: at its own epoch only (KIP-848)."""
    try:
        group.check_commit(
            member_id=request.member_id,
            instance_id=request.group_instance_id,
            epoch=request.generation_id_or_member_epoch,
            version=caller.version,
        )
    except KafkaError as error:
        return error.code
    return ErrorCode.NONE


def _transactional_consumer_refusal(group: ConsumerGroup, request: TxnOffsetCommitRequest) -> ErrorCode:
    try:
        group.check_commit(
            member_id=request.member_id,
            instance_id=request.group_instance_id,
            epoch=request.generation_id,
            is_transactional=True,
        )
    except KafkaError as error:
        # Producers know no member epochs: they are told what they understand.
        return ErrorCode.ILLEGAL_GENERATION if error.code is ErrorCode.STALE_MEMBER_EPOCH else error.code
    return ErrorCode.NONE


def _mark(storable: Storable, error: ErrorCode) -> None:
    for _, answered in storable.values():
        answered.error_code = error


def _committed(partition: AskedPartition, now: Now, expire_time_ms: int) -> CommittedOffset:
    return CommittedOffset(
        offset=partition.committed_offset,
        leader_epoch=partition.committed_leader_epoch,
        metadata=partition.committed_metadata or "",
        commit_time_ms=now.time_ms,
        expire_time_ms=expire_time_ms,
    )


def _length(metadata: str) -> int:
    """Length as Kafka counts it, in UTF-16 units."""
    return len(metadata) if metadata.isascii() else len(metadata.encode("utf-16-le", "surrogatepass")) // 2
