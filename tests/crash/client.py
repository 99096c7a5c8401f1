"""A synchronous Kafka client with one call per thing that a life does. Speaks bytes through `tests.broker.wire`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from logqueue.errors import ErrorCode
from logqueue.ids import TopicPartition
from logqueue.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from logqueue.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from logqueue.protocol.messages.delete_records import DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic
from logqueue.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from logqueue.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from logqueue.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from logqueue.protocol.messages.heartbeat import HeartbeatRequest
from logqueue.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from logqueue.protocol.messages.init_producer_id import InitProducerIdRequest
from logqueue.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from logqueue.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from logqueue.protocol.messages.metadata import MetadataRequest
from logqueue.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from logqueue.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from logqueue.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from logqueue.records.batch import BatchHeader, check_crc, iterate_batches
from logqueue.records.builder import read_records
from tests.broker.wire import Wire, produce_request

TOPIC_RESOURCE = 2
OWN_PROPERTY = 1  # DescribeConfigs: set on the topic itself
SESSION_MS = 1_800_000
REBALANCE_MS = 300
"""Short: a member whose answer was an error is waited for so long."""
EARLIEST = -2
LATEST = -1
READ_COMMITTED = 1


class Refused(AssertionError):
    """The broker answered with an error."""

    def __init__(self, what: str, code: int, detail: str | None = None) -> None:
        super().__init__(f"{what}: {ErrorCode(code).name}{' ' + detail if detail else ''}")
        self.code = ErrorCode(code)


def accept(what: str, answer: Any) -> Any:
    """The answer, or Refused."""
    if answer.error_code:
        raise Refused(what, answer.error_code, getattr(answer, "error_message", None))
    return answer


class StoredRecord(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None


class StoredBatch(NamedTuple):
    header: BatchHeader
    records: list[StoredRecord]


class FetchedLog(NamedTuple):
    """Everything that a partition shows: batches (control ones with their records), and its bounds."""

    start: int
    high_watermark: int
    last_stable_offset: int
    batches: list[StoredBatch]
    aborted: list[tuple[int, int]]  # producer id, first offset

    def data(self) -> list[StoredRecord]:
        """Records of clients, at or after the start of the log."""
        return [
            record
            for header, records in self.batches
            if not header.is_control
            for record in records
            if record.offset >= self.start
        ]

    def committed(self) -> list[StoredRecord]:
        """What a client with read_committed hands to its application (KIP-98)."""
        aborted = sorted(self.aborted, key=lambda each: each[1])
        in_abort: set[int] = set()
        found = []
        for header, records in self.batches:
            while aborted and aborted[0][1] <= header.last_offset:
                in_abort.add(aborted.pop(0)[0])
            if header.is_control:
                in_abort.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in in_abort):
                found += [record for record in records if record.offset >= self.start]
        return found


class Client:
    """One connection to a broker."""

    def __init__(self, bootstrap: str) -> None:
        self.wire = Wire(bootstrap)

    def close(self) -> None:
        self.wire.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Topics

    def topics(self) -> dict[str, Any]:
        """All topics by name, as Metadata tells them."""
        answer = self.wire.call(12, MetadataRequest(topics=None, allow_auto_topic_creation=False))
        return {topic.name: topic for topic in answer.topics}

    def create_topic(self, name: str, partitions: int, properties: dict[str, str]) -> bytes:
        configs = [CreatableTopicConfig(name=key, value=value) for key, value in properties.items()]
        topic = CreatableTopic(name=name, num_partitions=partitions, replication_factor=1, configs=configs)
        topic_id: bytes = accept(name, self.wire.call(7, CreateTopicsRequest(topics=[topic])).topics[0]).topic_id
        return topic_id

    def delete_topic(self, name: str) -> None:
        answer = self.wire.call(6, DeleteTopicsRequest(topics=[DeleteTopicState(name=name)], timeout_ms=10_000))
        accept(name, answer.responses[0])

    def grow_topic(self, name: str, partitions: int) -> None:
        request = CreatePartitionsRequest(topics=[CreatePartitionsTopic(name=name, count=partitions, assignments=None)])
        accept(name, self.wire.call(3, request).results[0])

    def alter_topic(self, name: str, key: str, value: str) -> None:
        config = AlterableConfig(name=key, config_operation=0, value=value)
        resource = AlterConfigsResource(resource_type=TOPIC_RESOURCE, resource_name=name, configs=[config])
        accept(name, self.wire.call(1, IncrementalAlterConfigsRequest(resources=[resource])).responses[0])

    def properties_of(self, name: str) -> dict[str, str]:
        """What is set on a topic itself."""
        resource = DescribeConfigsResource(resource_type=TOPIC_RESOURCE, resource_name=name, configuration_keys=None)
        answer = accept(name, self.wire.call(4, DescribeConfigsRequest(resources=[resource])).results[0])
        return {config.name: config.value for config in answer.configs if config.config_source == OWN_PROPERTY}

    def delete_records(self, partition: TopicPartition, offset: int) -> None:
        wanted = DeleteRecordsPartition(partition_index=partition.partition, offset=offset)
        topic = DeleteRecordsTopic(name=partition.topic, partitions=[wanted])
        answer = self.wire.call(2, DeleteRecordsRequest(topics=[topic], timeout_ms=10_000))
        accept(str(partition), answer.topics[0].partitions[0])

    # Records

    def produce(self, partition: TopicPartition, batch: bytes, *, acks: int = -1) -> int:
        """Answers the base offset."""
        self.send_produce(partition, batch, acks=acks)
        return self.receive_produced()

    def send_produce(
        self, partition: TopicPartition, batch: bytes, *, acks: int = -1, transactional_id: str | None = None
    ) -> None:
        request = produce_request(partition.topic, batch, partition=partition.partition, acks=acks)
        request.transactional_id = transactional_id
        self.wire.send(11, request)

    def receive_produced(self) -> int:
        answer = self.wire.receive()[1].responses[0].partition_responses[0]
        base_offset: int = accept("produce", answer).base_offset
        return base_offset

    def offset(self, partition: TopicPartition, timestamp: int) -> int:
        wanted = ListOffsetsPartition(partition_index=partition.partition, timestamp=timestamp)
        request = ListOffsetsRequest(topics=[ListOffsetsTopic(name=partition.topic, partitions=[wanted])])
        offset: int = accept(str(partition), self.wire.call(8, request).topics[0].partitions[0]).offset
        return offset

    def fetch(self, partition: TopicPartition, offset: int, *, isolation: int = 0, max_bytes: int = 1 << 20) -> Any:
        """The answer for one partition, at once."""
        wanted = FetchPartition(partition=partition.partition, fetch_offset=offset, partition_max_bytes=max_bytes)
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=1 << 26,
            isolation_level=isolation,
            topics=[FetchTopic(topic=partition.topic, partitions=[wanted])],
        )
        return accept(f"fetch {partition} at {offset}", self.wire.call(11, request).responses[0].partitions[0])

    def read(self, partition: TopicPartition, *, isolation: int = 0, max_bytes: int = 1 << 20) -> FetchedLog:
        """Everything from the log's start on, with checksums and offsets checked."""
        offset = self.offset(partition, EARLIEST)
        batches: list[StoredBatch] = []
        aborted: set[tuple[int, int]] = set()
        while True:
            answer = self.fetch(partition, offset, isolation=isolation, max_bytes=max_bytes)
            aborted |= {(each.producer_id, each.first_offset) for each in answer.aborted_transactions or ()}
            found = list(batches_in(bytes(answer.records or b"")))
            if not found:
                return FetchedLog(
                    answer.log_start_offset, answer.high_watermark, answer.last_stable_offset, batches, sorted(aborted)
                )
            assert found[-1].header.last_offset >= offset, f"a fetch at {offset} answered older records only"
            for batch in found:
                assert not batches or batch.header.base_offset > batches[-1].header.last_offset, "offsets went back"
                batches.append(batch)
            offset = found[-1].header.last_offset + 1

    # Producers

    def init_producer(self, transactional_id: str | None = None) -> tuple[int, int]:
        """A producer id and its epoch."""
        request = InitProducerIdRequest(transactional_id=transactional_id, transaction_timeout_ms=600_000)
        answer = accept(f"InitProducerId {transactional_id}", self.wire.call(4, request))
        return answer.producer_id, answer.producer_epoch

    # Groups

    def commit(
        self,
        group: str,
        partition: TopicPartition,
        offset: int,
        *,
        member_id: str = "",
        generation: int = -1,
        version: int = 8,
    ) -> None:
        wanted = OffsetCommitRequestPartition(
            partition_index=partition.partition, committed_offset=offset, committed_metadata=f"m{offset}"
        )
        request = OffsetCommitRequest(
            group_id=group,
            member_id=member_id,
            generation_id_or_member_epoch=generation,
            topics=[OffsetCommitRequestTopic(name=partition.topic, partitions=[wanted])],
        )
        accept(f"commit {group} {partition}", self.wire.call(version, request).topics[0].partitions[0])

    def committed(self, group: str, partition: TopicPartition) -> int:
        """The committed offset, -1 for none; the metadata that `commit` gave it must have come with it."""
        offset, metadata = self._committed(group, partition)
        assert offset < 0 or metadata == f"m{offset}", f"offset {offset} came back with metadata {metadata}"
        return offset

    def committed_offset(self, group: str, partition: TopicPartition) -> int:
        """The committed offset, whatever its metadata; -1 for none."""
        return self._committed(group, partition)[0]

    def _committed(self, group: str, partition: TopicPartition) -> tuple[int, str]:
        topic = OffsetFetchRequestTopics(name=partition.topic, partition_indexes=[partition.partition])
        request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=[topic])])
        answer = accept(group, self.wire.call(8, request).groups[0])
        found = accept(f"{group} {partition}", answer.topics[0].partitions[0])
        return found.committed_offset, found.metadata

    def join(self, group: str) -> tuple[str, int]:
        """Be the only member of a classic group; answers member id and generation."""
        request = JoinGroupRequest(
            group_id=group,
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=REBALANCE_MS,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="range", metadata=b"")],
        )
        request.member_id = self.wire.call(5, request).member_id
        joined = accept(group, self.wire.call(5, request))
        own = SyncGroupRequestAssignment(member_id=joined.member_id, assignment=b"all of it")
        sync = SyncGroupRequest(
            group_id=group, generation_id=joined.generation_id, member_id=joined.member_id, assignments=[own]
        )
        accept(group, self.wire.call(4, sync))
        return joined.member_id, joined.generation_id

    def heartbeat(self, group: str, member_id: str, generation: int) -> None:
        request = HeartbeatRequest(group_id=group, generation_id=generation, member_id=member_id)
        accept(f"heartbeat of {member_id} in generation {generation}", self.wire.call(4, request))


def batches_in(data: bytes) -> Iterator[StoredBatch]:
    """The whole batches of a fetch, checked."""
    for position, header in iterate_batches(data, partial_tail=True):
        check_crc(data, position, header)
        records = [StoredRecord(r.offset, r.key, r.value) for r in read_records(data, position, header)]
        offsets = [record.offset for record in records]
        assert all(header.base_offset <= offset <= header.last_offset for offset in offsets)
        assert offsets == sorted(set(offsets))
        yield StoredBatch(header, records)
