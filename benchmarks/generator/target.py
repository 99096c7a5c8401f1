"""A topic to send load at, and the frames for it: versions as both sides know them, topics by name or id."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from logqueue.protocol.api import ApiKey
from logqueue.protocol.frames import RequestHeader, read_response, request_type, write_request, write_response
from logqueue.protocol.messages.api_versions import ApiVersionsRequest
from logqueue.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from logqueue.protocol.messages.fetch import (
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from logqueue.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from logqueue.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from logqueue.protocol.schema import Message
from logqueue.records import Record, build_batch
from tests.broker.wire import Wire

TOPIC = "bench"
CLIENT_ID = "bench"
LEADER_TIMEOUT_SECONDS = 60
WHOLE = 1 << 30
TIMESTAMP_MS = 1_700_000_000_000


class Target:
    """One topic of a running broker."""

    def __init__(self, bootstrap: str, *, partitions: int = 1, version: int = 0) -> None:
        """Creates the topic. `version` is the one of Produce; 0 takes the highest that both sides know."""
        self._wire = Wire(bootstrap)
        answer = self._wire.call(0, ApiVersionsRequest())
        self._theirs = {each.api_key: each.max_version for each in answer.api_keys}
        self.produce_version = version or self._highest(ApiKey.PRODUCE)
        self.fetch_version = self._highest(ApiKey.FETCH)
        if partitions > 1:
            topic = CreatableTopic(name=TOPIC, num_partitions=partitions, replication_factor=1)
            self._wire.call(self._highest(ApiKey.CREATE_TOPICS), CreateTopicsRequest(topics=[topic]))
        self._topic_id = self._wait_for_leader()

    def produce(self, records: bytes, *, partition: int = 0, acks: int = 1) -> bytes:
        """The frame of a produce request with these batches."""
        data = PartitionProduceData(index=partition, records=memoryview(records))
        topic = TopicProduceData(name=TOPIC, topic_id=self._topic_id, partition_data=[data])
        request = ProduceRequest(acks=acks, timeout_ms=10_000, topic_data=[topic])
        return _frame(self.produce_version, request)

    def fetch(self, offset: int, *, max_bytes: int = WHOLE, max_wait_ms: int = 0) -> bytes:
        """The frame of a fetch from partition 0, outside of a fetch session."""
        wanted = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=max_bytes)
        topic = FetchTopic(topic=TOPIC, topic_id=self._topic_id, partitions=[wanted])
        request = FetchRequest(max_wait_ms=max_wait_ms, min_bytes=1, max_bytes=WHOLE, topics=[topic])
        return _frame(self.fetch_version, request)

    @property
    def fetch_offset_position(self) -> int:
        """Where a fetch frame says its offset."""
        return difference(lambda offset: self.fetch(offset), 0, 1) - 7  # the lowest of 8 bytes differs

    @property
    def produce_check(self) -> int:
        """Where the answer of a produce has its error code."""

        def answer(code: int) -> bytes:
            part = PartitionProduceResponse(index=0, error_code=code, base_offset=0)
            topic = TopicProduceResponse(name=TOPIC, topic_id=self._topic_id, partition_responses=[part])
            return _answer(self.produce_version, ProduceResponse(responses=[topic]), ApiKey.PRODUCE)

        return difference(answer, 0, -1)

    @property
    def fetch_check(self) -> int:
        """Where the answer of a fetch has its partition's error code."""

        def answer(code: int) -> bytes:
            part = PartitionData(partition_index=0, error_code=code, high_watermark=0, records=b"")
            topic = FetchableTopicResponse(topic=TOPIC, topic_id=self._topic_id, partitions=[part])
            return _answer(self.fetch_version, FetchResponse(responses=[topic]), ApiKey.FETCH)

        return difference(answer, 0, -1)

    def send(self, frame: bytes) -> Any:
        """Send one frame and read its answer, decoded."""
        key, version = struct.unpack_from(">hh", frame, 4)
        self._wire.socket.sendall(frame)
        size = int.from_bytes(self._wire.read_exactly(4), "big")
        return read_response(key, version, memoryview(self._wire.read_exactly(size)))[1]

    def acknowledged(self, frame: bytes, *, check: int) -> float:
        """Send the frame of a produce and wait for its answer, in seconds; `check` is `produce_check`.

        Raises RuntimeError if the broker refuses.
        """
        began = time.perf_counter()
        self._wire.socket.sendall(frame)
        answer = self._wire.read_exactly(int.from_bytes(self._wire.read_exactly(4), "big"))
        took = time.perf_counter() - began
        if code := int.from_bytes(answer[check : check + 2], "big", signed=True):
            raise RuntimeError(f"the broker refused a record with error {code}")
        return took

    def append(self, records: bytes) -> int:
        """Produce once: the base offset. Raises RuntimeError if the broker refuses."""
        part = self.send(self.produce(records)).responses[0].partition_responses[0]
        if part.error_code:
            raise RuntimeError(f"the broker refused a batch with error {part.error_code}: {part.error_message}")
        return int(part.base_offset)

    def _highest(self, key: ApiKey) -> int:
        if key not in self._theirs:
            raise RuntimeError(f"the broker does not serve {key.name}")
        return int(min(self._theirs[key], request_type(key).versions.max))

    def _wait_for_leader(self) -> bytes:
        """A topic that was just created may have no leader for a moment. Its id."""
        request = MetadataRequest(topics=[MetadataRequestTopic(name=TOPIC)], allow_auto_topic_creation=True)
        deadline = time.monotonic() + LEADER_TIMEOUT_SECONDS
        while True:
            topic = self._wire.call(self._highest(ApiKey.METADATA), request).topics[0]
            if not topic.error_code and all(part.leader_id >= 0 for part in topic.partitions):
                return bytes(topic.topic_id)
            if time.monotonic() > deadline:
                raise RuntimeError(f"the topic has no leader (error {topic.error_code})")
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wire.close()


def one_record(size: int) -> bytes:
    """A batch with one record whose value has `size` bytes."""
    return bytes(build_batch([Record(timestamp_ms=TIMESTAMP_MS, value=b"x" * size)]))


def batch_of(size: int, *, record_bytes: int = 1000) -> bytes:
    """A batch of about `size` bytes, full of records."""
    count = max(1, size // record_bytes)
    return bytes(build_batch([Record(timestamp_ms=TIMESTAMP_MS, value=b"x" * record_bytes)] * count))


def difference(make: Callable[[int], bytes], first: int, second: int) -> int:
    """The first position at which what is made of two numbers differs."""
    for position, (a, b) in enumerate(zip(make(first), make(second), strict=True)):
        if a != b:
            return position
    raise ValueError("the two are the same")


def _frame(version: int, message: Message) -> bytes:
    assert message.api_key is not None
    header = RequestHeader(message.api_key, version, 0, CLIENT_ID)
    return b"".join(bytes(part) for part in write_request(header, message))  # type: ignore[arg-type]


def _answer(version: int, message: Message, key: ApiKey) -> bytes:
    return b"".join(bytes(part) for part in write_response(key, version, 0, message))  # type: ignore[arg-type]
