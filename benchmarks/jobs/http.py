"""A HTTP/1.1 client of a few lines over kept-open connections: its own cost stays out of the figures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Self

LIMIT_BYTES = 1 << 26
TIMEOUT_SECONDS = 60


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """A request as bytes."""
    head = f"{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def content_length(head: bytes) -> int:
    """The length of an answer's body, out of its head. Raises ValueError if the answer is no success, or has none."""
    status, *lines = head.decode("latin-1").split("\r\n")
    if status.split(" ")[1][:1] != "2":
        raise ValueError(f"the API answered {status}")
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            return int(value)
    raise ValueError("an answer without content-length")


class Connection:
    """One kept-open connection: one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: str) -> Self:
        """Connect to `http://HOST:PORT`."""
        host, _, port = address.removeprefix("http://").rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port), limit=LIMIT_BYTES))

    async def ask(self, asked: bytes) -> bytes:
        """Send a request and read the body of its answer. Raises ValueError if that is no success."""
        self._writer.write(asked)
        head = await self._reader.readuntil(b"\r\n\r\n")
        return await self._reader.readexactly(content_length(head))

    def close(self) -> None:
        """Close it without waiting."""
        self._writer.close()


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
