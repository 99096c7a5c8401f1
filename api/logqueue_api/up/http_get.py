"""The smallest HTTP GET that asks our own API, on the supervisor's loop. Imports no client library."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

LARGEST_ANSWER_BYTES = 4 << 20
ANSWER_SECONDS = 5.0


async def get(url: str, *, seconds: float = ANSWER_SECONDS) -> tuple[int, bytes]:
    """(status, body) of a plain-http URL; raises OSError or TimeoutError where nothing useful answers."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(parts.hostname or "127.0.0.1", parts.port or 80)
        try:
            # HTTP/1.0: the answer is neither chunked nor kept alive; its end is the connection's end.
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\nAccept: application/json\r\n\r\n".encode())
            await writer.drain()
            return _parse(await _read_all(reader))
        finally:
            writer.close()


async def get_json(url: str) -> Any:
    """The JSON document of a 200 answer, or None for any other answer and where nobody answers."""
    try:
        status, body = await get(url)
        return json.loads(body) if status == 200 else None
    except (OSError, TimeoutError, ValueError):
        return None


async def is_ok(url: str) -> bool:
    """Whether the URL answers 200 just now."""
    try:
        return (await get(url))[0] == 200
    except (OSError, TimeoutError):
        return False


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    data = bytearray()
    while chunk := await reader.read(65_536):
        data += chunk
        if len(data) > LARGEST_ANSWER_BYTES:
            raise OSError(f"the answer is larger than {LARGEST_ANSWER_BYTES >> 20} MiB")
    return bytes(data)


def _parse(data: bytes) -> tuple[int, bytes]:
    head, found, body = data.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not found or len(words) < 2 or not words[1].isdigit():
        raise OSError("the answer is not HTTP")
    return int(words[1]), body
