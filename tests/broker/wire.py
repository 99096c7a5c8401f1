"""A Kafka client of a few lines, at the byte level: it sends what it is told and reads frame by frame."""

from __future__ import annotations

import socket
import struct
import time
from types import TracebackType
from typing import Any, Self

from logqueue.protocol.frames import RequestHeader, read_response, write_request
from logqueue.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from logqueue.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from logqueue.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from logqueue.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from logqueue.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from logqueue.protocol.schema import Message
from logqueue.records.batch import iterate_batches
from logqueue.records.builder import build_batch, read_records
from logqueue.records.record import Record

TIMEOUT_SECONDS = 20
WAIT_SECONDS = 60
PAUSE_SECONDS = 0.02
SENT_AT_MS = int(time.time() * 1000) - 24 * 60 * 60 * 1000
"""The time of every record: before all markers and appends, and too young for a log to delete, whenever it looks."""


class Wire:
    """One connection. Requests are numbered; answers are given as (correlation id, message)."""

    def __init__(self, bootstrap: str) -> None:
        host, _, port = bootstrap.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sent: dict[int, tuple[int, int]] = {}
        self._next = 1

    def encode(self, version: int, message: Message) -> bytes:
        """The request as bytes, and remember how to read its answer."""
        assert message.api_key is not None
        number, self._next = self._next, self._next + 1
        self._sent[number] = (message.api_key, version)
        header = RequestHeader(message.api_key, version, number, "wire")
        return b"".join(bytes(s) for s in write_request(header, message))  # type: ignore[arg-type]

    def send(self, version: int, message: Message) -> int:
        data = self.encode(version, message)
        self.socket.sendall(data)
        return self._next - 1

    def receive(self) -> tuple[int, Any]:
        (size,) = struct.unpack(">i", self.read_exactly(4))
        body = self.read_exactly(size)
        (number,) = struct.unpack_from(">i", body)
        key, version = self._sent.pop(number)
        return read_response(key, version, memoryview(body))

    def call(self, version: int, message: Message) -> Any:
        number = self.send(version, message)
        answered, response = self.receive()
        assert answered == number
        return response

    def read_exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self.socket.recv(size - len(parts))
            if not part:
                raise EOFError(f"the broker closed the connection after {len(parts)} of {size} bytes")
            parts += part
        return bytes(parts)

    def is_closed_by_broker(self) -> bool:
        """Whether the broker ends the connection without another byte (waits for it)."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def batch(*values: bytes, key: bytes | None = None, at_ms: int = SENT_AT_MS, **options: Any) -> bytes:
    """A record batch as a producer sends it."""
    records = [Record(timestamp_ms=at_ms, key=key, value=value) for value in values]
    return bytes(build_batch(records, **options))


def produce_request(topic: str, records: bytes, *, partition: int = 0, acks: int = -1) -> ProduceRequest:
    data = PartitionProduceData(index=partition, records=memoryview(records))
    return ProduceRequest(
        acks=acks, timeout_ms=10_000, topic_data=[TopicProduceData(name=topic, partition_data=[data])]
    )


def fetch_request(
    topic: str,
    offset: int,
    *,
    partition: int = 0,
    max_wait_ms: int = 0,
    min_bytes: int = 1,
    max_bytes: int = 50_000_000,
    partition_max_bytes: int = 50_000_000,
    session_id: int = 0,
    session_epoch: int = -1,
) -> FetchRequest:
    wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=partition_max_bytes)
    return FetchRequest(
        max_wait_ms=max_wait_ms,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        session_id=session_id,
        session_epoch=session_epoch,
        topics=[FetchTopic(topic=topic, partitions=[wanted])],
    )


def create_topic(wire: Wire, topic: str) -> None:
    """Have the topic created as clients do, by asking for it."""
    wire.call(9, MetadataRequest(topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=True))


def values_of(response: Any) -> list[bytes | None]:
    """The record values of the only partition of a fetch response."""
    records = response.responses[0].partitions[0].records
    found: list[bytes | None] = []
    for position, header in iterate_batches(records or b"", partial_tail=True):
        found += [record.value for record in read_records(records, position, header)]
    return found


def served(wire: Wire, *names: str) -> None:
    """Wait until topics that were just created serve requests: Apache Kafka answers before its broker knows of them.

    Its metadata knows first, then its partitions; coordinators of groups hear last, and not by this.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while not all(_is_served(wire, name) for name in names):
        assert time.monotonic() < deadline, f"{names} are not served yet"
        time.sleep(PAUSE_SECONDS)


def _is_served(wire: Wire, name: str) -> bool:
    asking = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
    topic = wire.call(9, asking).topics[0]
    wanted = [FetchPartition(partition=p.partition_index, fetch_offset=0) for p in topic.partitions]
    if topic.error_code or not wanted:
        return False
    request = FetchRequest(max_wait_ms=0, session_epoch=-1, topics=[FetchTopic(topic=name, partitions=wanted)])
    return all(part.error_code == 0 for part in wire.call(11, request).responses[0].partitions)


def create(wire: Wire, name: str, *, partitions: int = 1, validate_only: bool = False, **configs: str) -> Any:
    wanted = CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=1,
        configs=[CreatableTopicConfig(name=k.replace("_", "."), value=v) for k, v in configs.items()],
    )
    return wire.call(7, CreateTopicsRequest(topics=[wanted], validate_only=validate_only)).topics[0]


def produced(wire: Wire, topic: str, records: bytes, **options: Any) -> Any:
    return wire.call(9, produce_request(topic, records, **options)).responses[0].partition_responses[0]


def list_offset(wire: Wire, topic: str, timestamp: int) -> Any:
    partition = ListOffsetsPartition(partition_index=0, timestamp=timestamp)
    request = ListOffsetsRequest(topics=[ListOffsetsTopic(name=topic, partitions=[partition])])
    return wire.call(8, request).topics[0].partitions[0]
