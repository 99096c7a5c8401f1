"""A HTTP/1.1 client of a few lines over kept-open connections: its own cost stays out of the figures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Self, TypeVar, cast

import uvloop

TIMEOUT_SECONDS = 60
HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"
Result = TypeVar("Result")


def run(main: Coroutine[object, object, Result]) -> Result:
    """Run on the loop that costs the client the least."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """A request as bytes."""
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + HEAD_END + body


def content_length(head: bytes) -> int:
    """The length of an answer's body, out of its head. Raises ValueError if the answer is no success, or has none."""
    if head[9:10] != b"2":  # HTTP/1.1 200
        raise ValueError(f"the API answered {head.partition(HEAD_END[:2])[0].decode('latin-1')}")
    _, found, rest = head.lower().partition(LENGTH)
    if not found:
        raise ValueError("an answer without content-length")
    return int(rest.partition(b"\r")[0])


class Connection(asyncio.Protocol):
    """One kept-open connection: one request at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._size = 0  # of the answer that is arriving, head and body; 0: its head is not complete
        self._body_at = 0
        self._transport: asyncio.Transport
        self._answer: asyncio.Future[bytes] | None = None
        self._lost: Exception | None = None

    @classmethod
    async def open(cls, address: str) -> Self:
        """Connect to `http://HOST:PORT`."""
        host, _, port = address.removeprefix("http://").rpartition(":")
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, int(port))
        return connection

    async def ask(self, asked: bytes) -> bytes:
        """Send a request and read the body of its answer. Raises ValueError for no success, EOFError, OSError."""
        assert self._answer is None, "one request at a time"
        if self._lost is not None:
            raise self._lost
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(asked)
        try:
            return await self._answer
        finally:
            self._answer = None

    def close(self) -> None:
        """Close it without waiting."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = exc or EOFError("the API closed the connection")
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(self._lost)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        if self._answer is None or self._answer.done():
            return
        if not self._size:
            end = received.find(HEAD_END)
            if end < 0:
                return
            self._body_at = end + len(HEAD_END)
            try:
                self._size = self._body_at + content_length(bytes(received[: self._body_at]))
            except ValueError as problem:
                self._answer.set_exception(problem)
                return
        if len(received) >= self._size:
            self._answer.set_result(bytes(received[self._body_at : self._size]))
            del received[: self._size]
            self._size = 0


async def send_all(address: str, requests: Sequence[bytes], *, connections: int) -> list[float]:
    """Send the requests over some connections, one at a time on each: the seconds that each took, sorted."""
    waits: list[float] = []
    queue = iter(requests)
    async with asyncio.timeout(TIMEOUT_SECONDS), asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(_serve(address, queue, waits))
    return sorted(waits)


async def _serve(address: str, queue: Iterator[bytes], waits: list[float]) -> None:
    connection = await Connection.open(address)
    try:
        for each in queue:
            began = time.perf_counter()
            body = await connection.ask(each)
            assert body
            waits.append(time.perf_counter() - began)
    finally:
        connection.close()
