"""Produce requests and answers of aiokafka's producers, packed and read a partition at a time.

aiokafka's own codec goes field by field through Python, and knows no version above 7. This is version 9 (KIP-482): our
broker looks such requests up instead of decoding them. A broker without it is asked in aiokafka's way.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.client import ConnectionGroup
from aiokafka.protocol.produce import ProduceRequest

from logqueue.jobs.own_request import Answer, Encoded, OwnRequest
from logqueue.jobs.quick_send import QuickSend
from logqueue.protocol.wire import read_uvarint, skip_tags, uvarint

_PRODUCE: Final = 0
_VERSION: Final = 9
_NO_ANSWER: Final = 0  # acks

_HEADER = Struct(">hhih")  # api key, version, correlation id, length of the client id
_ACKS = Struct(">hi")  # and the timeout
_INDEX = Struct(">i")
_GIVEN = Struct(">ihqqq")  # partition, error, base offset, append time, log start offset
_NO_TAGS = _NULL = b"\0"


class _Prepared(OwnRequest):
    """A request in version 9; its own response type."""

    __slots__ = ("_request",)

    def __init__(self, request: ProduceRequest) -> None:
        self._request = request

    def build_request_header(self, correlation_id: int, client_id: str) -> Encoded:
        request, client = self._request, client_id.encode()
        parts = [
            _HEADER.pack(_PRODUCE, _VERSION, correlation_id, len(client)),
            client,
            _NO_TAGS,
            _NULL,  # transactional id
            _ACKS.pack(request._required_acks, request._timeout),
            uvarint(len(request._topics) + 1),
        ]
        for topic, partitions in request._topics:
            name = topic.encode()
            parts += (uvarint(len(name) + 1), name, uvarint(len(partitions) + 1))
            for index, records in partitions:
                parts += (_INDEX.pack(index), uvarint(len(records) + 1), records, _NO_TAGS)
            parts.append(_NO_TAGS)
        parts.append(_NO_TAGS)
        return Encoded(b"".join(parts))

    def read(self, frame: memoryview) -> Answer:
        return read_answer(frame)

    def __repr__(self) -> str:
        return f"Produce_v{_VERSION}"


def read_answer(frame: memoryview) -> Answer:
    """A Produce response with its header, as aiokafka's sender reads it. Raises struct.error, IndexError."""
    topics = []
    topic_count, position = read_uvarint(frame, skip_tags(frame, _INDEX.size))
    for _ in range(topic_count - 1):
        topic, position = _text(frame, position)
        partition_count, position = read_uvarint(frame, position)
        partitions: list[tuple[Any, ...]] = []
        for _ in range(partition_count - 1):
            facts = _GIVEN.unpack_from(frame, position)
            faults, position = read_uvarint(frame, position + _GIVEN.size)
            for _ in range(faults - 1):  # single records that were refused, each with a text
                position = skip_tags(frame, _text(frame, position + _INDEX.size)[1])
            message, position = _text(frame, position)
            position = skip_tags(frame, position)
            partitions.append((*facts, (), message or None))
        position = skip_tags(frame, position)
        topics.append((topic, partitions))
    return Answer(_VERSION, topics)


class LeanRequest:
    """A Produce request on its way to a connection whose versions are not known yet."""

    __slots__ = ("_request",)

    def __init__(self, request: ProduceRequest) -> None:
        self._request = request

    def prepare(self, versions: dict[int, tuple[int, int]]) -> Any:
        lowest, highest = versions.get(_PRODUCE, (0, 0))
        return _Prepared(self._request) if lowest <= _VERSION <= highest else self._request.prepare(versions)


def lean_produce(producer: AIOKafkaProducer) -> AIOKafkaProducer:
    """The producer itself, whose requests are encoded and decoded here from now on. It must not be transactional."""
    send, send_quickly = producer.client.send, QuickSend(producer.client)

    async def send_lean(node: int, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
        if type(request) is not ProduceRequest or request.required_acks == _NO_ANSWER:
            return await send(node, request, group=group)
        return await send_quickly(node, LeanRequest(request), group=group)

    producer.client.send = send_lean
    return producer


def _text(frame: memoryview, position: int) -> tuple[str, int]:
    """A compact string, null as an empty one; where it ends."""
    length, position = read_uvarint(frame, position)
    end = position + max(0, length - 1)
    return str(frame[position:end], "utf-8"), end
