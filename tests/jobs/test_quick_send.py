"""Requests over quick connections: answers in any pieces, in order, and every way in which a connection ends."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, RequestTimedOutError
from aiokafka.protocol.admin import ApiVersionResponse_v0
from aiokafka.protocol.metadata import MetadataResponse_v0

from logqueue.jobs.own_request import Encoded, OwnRequest
from logqueue.jobs.quick_send import QuickSend
from tests.loops import in_loop

NODE = 1
API_VERSIONS, METADATA, ECHO = 18, 3, 99
TIMEOUT_S = 0.2

# In which pieces a broker sends its answers to requests that it has read together; None to hang up.
Cut = Callable[[bytes], list[bytes | None]]


class Echo(OwnRequest):
    """A request whose answer is what it says."""

    def __init__(self, text: str) -> None:
        self._text = text

    def prepare(self, versions: Any) -> Echo:
        return self

    def build_request_header(self, correlation_id: int, client_id: str) -> Encoded:
        return Encoded(struct.pack(">hhi", ECHO, 0, correlation_id) + self._text.encode())

    def read(self, frame: memoryview) -> str:
        return str(frame[4:], "utf-8")


class Broker:
    """Knows itself, and says what it hears."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self.port = 0
        self.open = 0
        self.reads: list[int] = []
        """How many requests came together."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        data = b""
        try:
            while more := await reader.read(1 << 20):
                data += more
                if not (frames := _frames(data)):
                    continue
                data = b""
                # The client asks for its metadata whenever a connection has ended: nothing to cut.
                for is_echo, some in groupby(frames, lambda frame: frame[:2] == struct.pack(">h", ECHO)):
                    answers = [self._answer(frame) for frame in some]
                    self.reads += [len(answers)] * is_echo
                    for piece in (self.cut if is_echo else whole)(b"".join(answers)):
                        if piece is None:
                            return
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(0)  # the other side may read a piece alone
        finally:
            writer.close()
            self.open -= 1

    def _answer(self, frame: bytes) -> bytes:
        key, _, correlation_id = struct.unpack_from(">hhi", frame)
        if key == API_VERSIONS:
            body = ApiVersionResponse_v0(0, [(METADATA, 0, 0), (API_VERSIONS, 0, 0)]).encode()
        elif key == METADATA:
            body = MetadataResponse_v0([(NODE, "127.0.0.1", self.port)], []).encode()
        else:
            body = frame[8:]
        return struct.pack(">ii", 4 + len(body), correlation_id) + body


def _frames(data: bytes) -> list[bytes]:
    """Frames that end where the data ends; none otherwise."""
    frames = []
    while data:
        (size,) = struct.unpack_from(">i", data)
        if len(data) < 4 + size:
            return []
        frames.append(data[4 : 4 + size])
        data = data[4 + size :]
    return frames


@asynccontextmanager
async def connected(cut: Cut) -> AsyncIterator[tuple[QuickSend, Broker]]:
    broker = Broker(cut)
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{broker.port}", request_timeout_ms=int(TIMEOUT_S * 1000))
    await client.bootstrap()
    try:
        yield QuickSend(client), broker
    finally:
        await client.close()
        while broker.open:
            await asyncio.sleep(0)
        server.close()
        await server.wait_closed()


def whole(answers: bytes) -> list[bytes | None]:
    return [answers]


def bytewise(answers: bytes) -> list[bytes | None]:
    return [answers[place : place + 1] for place in range(len(answers))]


def off_by_some(answers: bytes) -> list[bytes | None]:
    return [answers[:6], answers[6:-3], answers[-3:]]


@pytest.mark.parametrize("cut", [whole, bytewise, off_by_some])
@in_loop
async def test_answers_come_in_order_however_they_are_cut(cut: Cut) -> None:
    async with connected(cut) as (send, broker):
        assert await send(NODE, Echo("alone")) == "alone"
        assert await send.together(NODE, Echo("a"), Echo("b" * 20)) == ["a", "b" * 20]
        found = await asyncio.gather(*(send(NODE, Echo(str(number))) for number in range(5)))
        assert found == ["0", "1", "2", "3", "4"]
        assert broker.reads[:2] == [1, 2]


@in_loop
async def test_an_answer_larger_than_any_read_is_put_together() -> None:
    async with connected(whole) as (send, _):
        assert await send(NODE, Echo("x" * 900_000)) == "x" * 900_000


@pytest.mark.parametrize("cut", [lambda answers: [None], lambda answers: [answers[:-2], None]])
@in_loop
async def test_whoever_waits_is_told_that_the_connection_ended_and_the_next_gets_another(cut: Cut) -> None:
    async with connected(cut) as (send, broker):
        with pytest.raises(KafkaConnectionError):
            await send(NODE, Echo("lost"))
        with pytest.raises(KafkaConnectionError):
            await send.together(NODE, Echo("lost"), Echo("too"))
        broker.cut = whole
        assert await send(NODE, Echo("again")) == "again"


@in_loop
async def test_an_answer_that_does_not_come_ends_the_connection() -> None:
    async with connected(lambda answers: []) as (send, broker):
        with pytest.raises(RequestTimedOutError):
            await send.together(NODE, Echo("a"), Echo("b"))
        broker.cut = whole
        assert await send(NODE, Echo("again")) == "again"


@in_loop
async def test_an_answer_of_a_size_that_cannot_be_ends_the_connection() -> None:
    async with connected(lambda answers: [struct.pack(">i", -4) + answers]) as (send, broker):
        with pytest.raises(KafkaConnectionError):
            await send(NODE, Echo("a"))
        broker.cut = whole
        assert await send(NODE, Echo("again")) == "again"


@in_loop
async def test_an_answer_to_another_question_ends_the_connection() -> None:
    async with connected(lambda answers: [answers[:4] + b"\7\7\7\7" + answers[8:]]) as (send, _):
        with pytest.raises(Exception, match="Correlation ids do not match"):
            await send(NODE, Echo("a"))


@in_loop
async def test_who_has_gone_is_not_waited_for_and_the_others_get_their_own_answers() -> None:
    async with connected(whole) as (send, _):
        gone = asyncio.ensure_future(send(NODE, Echo("gone")))
        stays = asyncio.ensure_future(send(NODE, Echo("stays")))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays == "stays"
        assert gone.cancelled()


@in_loop
async def test_a_node_that_nobody_knows_is_not_ready() -> None:
    async with connected(whole) as (send, _):
        with pytest.raises(NodeNotReadyError):
            await send(NODE + 1, Echo("a"))
