"""What probes see of a worker: a tiny HTTP server and a file. Shell; the judgement is LivenessWatch's.

`GET /healthz` answers 200, or 503 when the worker is alive but not consuming: what process probes miss. The file is
there, and rewritten every few seconds, as long as the worker is healthy: a probe looks at its age, which tells of a
blocked loop too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from logqueue.errors import LogqueueError

log = structlog.get_logger(__name__)

FILE_S = 2.0
"""How often the file is rewritten."""
REQUEST_TIMEOUT_S = 5.0
MAX_REQUEST_BYTES = 8_192
MAX_CONNECTIONS = 32

Report = Callable[[], dict[str, Any]]
"""What is told; `problem` in it decides."""


class HealthNotServed(LogqueueError):
    """The port or the file for health checks cannot be used."""


class HealthServer:
    """Answers GET /healthz on one port until it is closed."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._server: asyncio.Server | None = None
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)

    async def start(self, *, host: str, port: int) -> int:
        """Listen; returns the port (0 asks for any free one)."""
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_REQUEST_BYTES)
        except OSError as error:
            raise HealthNotServed(f"cannot listen on {host}:{port} for health checks: {error.strerror}") from None
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._slots, asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asks like this gets no answer
        finally:
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path not in (b"/healthz", b"/"):
            return _response("404 Not Found", {"detail": "there is /healthz"})
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", {"detail": "GET it"})
        report = self._report()
        return _response("200 OK" if report["problem"] is None else "503 Service Unavailable", report)


async def keep_file(path: Path, report: Report) -> None:
    """Rewrite the file while the worker is healthy, remove it when it is not; until cancelled, then it is removed."""
    try:
        while True:
            document = report()
            write_file(path, document if document["problem"] is None else None)
            await asyncio.sleep(FILE_S)
    finally:
        write_file(path, None)


def write_file(path: Path, document: dict[str, Any] | None) -> None:
    """Write the report in one step, or remove the file; HealthNotServed says why it cannot be."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        if document is None:
            path.unlink(missing_ok=True)
            return
        fresh.write_text(json.dumps(document) + "\n")
        fresh.replace(path)
    except OSError as error:
        raise HealthNotServed(f"the health file {path} cannot be written: {error.strerror}") from None


def _response(status: str, document: dict[str, Any]) -> bytes:
    body = json.dumps(document).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    )
    return head.encode() + b"\r\n" + body
