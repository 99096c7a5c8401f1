"""uvicorn's HTTP protocol, whose answers leave in one piece. Knows nothing of what they say.

uvicorn writes the head of an answer and its body one after the other, and uvloop hands each write to the kernel at
once: two calls, two segments, and a client that is woken twice. What is written in one turn of the loop is one write.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HELD_BYTES: Final = 64 * 1024
"""More is not held until the turn is over: the transport tells when its peer does not keep up."""


class JoinedWrites:
    """A transport whose `write`s of one turn of the loop go on together; all else is the transport's own."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._held_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write it at the end of the turn, or now if that is much."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > MAX_HELD_BYTES:
            self._flush()

    def close(self) -> None:
        """Close once everything is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held, self._held_bytes = self._held, [], 0
            self._transport.write(b"".join(held))


class JoinedHttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 over a connection with joined writes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = cast("asyncio.Transport", JoinedWrites(transport, self.loop))
