"""A HTTP/1.1 client of a few lines over kept-open connections: its own cost stays out of the figures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

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


async def send_all(address: str, requests: Sequence[bytes], *, connections: int) -> list[float]:
    """Send the requests over some connections, one at a time on each: the seconds that each took, sorted."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    waits: list[float] = []
    queue = iter(requests)
    async with asyncio.timeout(TIMEOUT_SECONDS), asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(_serve(host, int(port), queue, waits))
    return sorted(waits)


async def _serve(host: str, port: int, queue: Iterator[bytes], waits: list[float]) -> None:
    reader, writer = await asyncio.open_connection(host, port, limit=LIMIT_BYTES)
    try:
        for each in queue:
            began = time.perf_counter()
            writer.write(each)
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(content_length(head))
            assert body
            waits.append(time.perf_counter() - began)
    finally:
        writer.close()
