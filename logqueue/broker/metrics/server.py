"""The HTTP side of metrics: GET /metrics and /healthz on a port of their own, and nothing else. No library."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from logqueue.broker.metrics.snapshot import Snapshot, take
from logqueue.broker.network.listener import CannotListen, explain

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

log = logging.getLogger("logqueue.broker.metrics")

REQUEST_SECONDS = 5.0  # a client that has not asked by then is let go
MAX_HEAD_BYTES = 8 * 1024
MAX_CLIENTS = 16
TEXT = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """An HTTP answer."""

    status: str
    content_type: str
    body: bytes


class MetricsServer:
    """Serves one broker; runs on its loop, the page itself is written in a thread."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen, and give the port. Raises CannotListen."""
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD_BYTES)
        except OSError as error:
            raise CannotListen(f"metrics: {explain(host, port, error)}") from None
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening, and end what is being served."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._clients) >= MAX_CLIENTS:
                return
            self._clients.add(task)
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                answer = await self._answer(head)
                writer.write(_encode(answer, is_head=head.startswith(b"HEAD ")))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("a client of the metrics port was let go: %r", error)
        finally:
            self._clients.discard(task)
            writer.close()

    async def _answer(self, head: bytes) -> Answer:
        method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return Answer("405 Method Not Allowed", TEXT, b"only GET\n")
        match path:
            case b"/metrics":
                return await self._metrics()
            case b"/healthz":
                return self._health()
            case _:
                return Answer("404 Not Found", TEXT, b"/metrics and /healthz are here\n")

    async def _metrics(self) -> Answer:
        snapshot = take(self._broker)
        return await asyncio.to_thread(_page, snapshot)

    def _health(self) -> Answer:
        failure = self._broker.storage_failure
        if failure is not None:
            return Answer("503 Service Unavailable", TEXT, f"{failure.detail}\n".encode())
        if self._broker.is_stopping:
            return Answer("503 Service Unavailable", TEXT, b"stopping\n")
        return Answer("200 OK", TEXT, b"ok\n")


def _page(snapshot: Snapshot) -> Answer:
    from logqueue.broker.metrics.page import CONTENT_TYPE, render

    return Answer("200 OK", CONTENT_TYPE, render(snapshot))


def _encode(answer: Answer, *, is_head: bool) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status}\r\nContent-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
    ).encode()
    return head if is_head else head + answer.body
