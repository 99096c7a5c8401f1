"""Lines that a child process writes, however long they are. Knows nothing of what they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

MAX_LINE_BYTES: Final = 64 * 1024


async def output_lines(stream: asyncio.StreamReader, *, max_bytes: int = MAX_LINE_BYTES) -> AsyncIterator[bytes]:
    """Lines without their ends, to the end of the stream; longer ones in pieces of `max_bytes` and a little more.

    `StreamReader.readline` raises for a line beyond its limit, and whoever prints a bar with carriage returns alone
    writes one line.
    """
    rest = b""
    while chunk := await stream.read(MAX_LINE_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(rest) >= max_bytes:
            yield rest
            rest = b""
    if rest:
        yield rest
