"""Requests that we encode and decode ourselves, on aiokafka's connections, once their version is known.

What `AIOKafkaConnection.send` takes has a `prepare(versions)`, which answers with one of these.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, NamedTuple, Self

CORRELATION_ID_BYTES = 4


class Encoded(NamedTuple):
    """Bytes that are ready to leave."""

    content: bytes

    def encode(self) -> bytes:
        return self.content


class CorrelationId(NamedTuple):
    """What aiokafka wants to know of a response's header."""

    correlation_id: int


class Answer(NamedTuple):
    """A response with topics and their partitions, as aiokafka's fetcher and sender read it."""

    API_VERSION: int
    topics: list[tuple[str, list[tuple[Any, ...]]]]


class OwnRequest:
    """A request in the version of its connection; its own response type, as it knows the version.

    Subclasses have `build_request_header`, which gives the bytes of the whole request, and `read`.
    """

    __slots__ = ()

    @property
    def RESPONSE_TYPE(self) -> Self:  # noqa: N802 - aiokafka's word
        return self  # kept, it would be a cycle: garbage with every request, and pauses of the collector

    def encode(self) -> bytes:
        return b""  # the header's bytes are the whole request

    def read(self, frame: memoryview) -> Any:
        """What a response says; the frame begins with its correlation id."""
        raise NotImplementedError

    def decode(self, frame: BytesIO) -> Any:
        """The same, as aiokafka asks for it."""
        return self.read(frame.getbuffer())

    def parse_response_header(self, frame: BytesIO) -> CorrelationId:
        """The correlation id, with the position behind it."""
        return CorrelationId(int.from_bytes(frame.read(CORRELATION_ID_BYTES), "big"))
