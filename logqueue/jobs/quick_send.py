"""Requests over aiokafka's connections without its detours: no task and no stream between a frame and who waits for it.

aiokafka reads frames in a task of its own through a `StreamReader`, twice for each, and puts a timeout's context around
each answer. A lone job is five requests, and each turn of the loop more is time in which it waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from struct import Struct
from typing import Any, Final

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection, AIOKafkaProtocol, CloseReason
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, RequestTimedOutError

from logqueue.jobs.own_request import OwnRequest

_SIZE: Final = Struct(">i")  # of a frame; a correlation id has the same form
_log = logging.getLogger(__name__)


class _Frames(AIOKafkaProtocol):  # type: ignore[misc]
    """The protocol of a connection that hands over each frame when its last byte is here."""

    _of: weakref.ref[AIOKafkaConnection]
    _part: bytearray

    def data_received(self, data: bytes) -> None:
        part = self._part
        if not part and len(data) >= _SIZE.size and _SIZE.unpack_from(data)[0] == len(data) - _SIZE.size:
            self._hand_over(data[_SIZE.size :])
            return
        part += data
        start = 0
        while len(part) - start >= _SIZE.size:
            size = _SIZE.unpack_from(part, start)[0]
            if size < 0:
                self._end(ValueError(f"an answer of {size} bytes"))
                return
            end = start + _SIZE.size + size
            if end > len(part):
                break
            self._hand_over(bytes(memoryview(part)[start + _SIZE.size : end]))
            start = end
        del part[:start]

    def eof_received(self) -> bool:
        self._end(EOFError("closed by the broker"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._end(exc or EOFError("closed"))

    def _hand_over(self, frame: bytes) -> None:
        connection = self._of()
        if connection is None or connection._reader is None:
            return
        try:
            _answered(connection, frame)
        except Exception as error:  # whoever waits for answers is told
            _log.exception("an answer of the broker cannot be read")
            self._end(error)

    def _end(self, error: Exception) -> None:
        connection = self._of()
        if connection is not None and connection._reader is not None:
            connection.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)


def _answered(connection: AIOKafkaConnection, frame: bytes) -> None:
    correlation_id, request, future = connection._requests[0]
    if not isinstance(request, OwnRequest) or _SIZE.unpack_from(frame)[0] != correlation_id:
        connection._handle_frame(frame)
        return
    if not future.done():
        future.set_result(request.read(memoryview(frame)))
    connection._requests.popleft()
    connection._last_action = time.monotonic()


def _quicken(connection: AIOKafkaConnection) -> None:
    """Read frames as they come. Not while an answer is awaited: some of it may have been read already."""
    connection._read_task.cancel()
    protocol = connection._protocol
    protocol._of, protocol._part = weakref.ref(connection), bytearray()
    protocol.__class__ = _Frames
    connection._writer.transport.set_protocol(protocol)


class QuickSend:
    """Sends requests of our own (`own_request`) through a client's connections, in place of the client's `send`."""

    __slots__ = ("_client",)

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    async def __call__(self, node: int, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
        """The answer. Raises what the client's own `send` does."""
        connection = await self._connection(node, group)
        return await _answer(connection, _send(connection, (request,))[0])

    async def together(self, node: int, *requests: Any, group: Any = ConnectionGroup.DEFAULT) -> list[Any]:
        """The answers to requests that leave in one write. Raises what the client's own `send` does."""
        connection = await self._connection(node, group)
        *others, last = _send(connection, requests)
        try:
            answer = await _answer(connection, last)  # in order: the others are here by then
        finally:
            for future in others:
                if not future.cancel() and not future.cancelled():
                    future.exception()  # seen: the last one has the same
        return [*(future.result() for future in others), answer]

    async def _connection(self, node: int, group: Any) -> AIOKafkaConnection:
        connection = self._client._conns.get((node, group))
        if connection is None or type(connection._protocol) is not _Frames or not connection.connected():
            connection = await self._client._get_conn(node, group=group)
            if connection is None:
                raise NodeNotReadyError(f"no connection to node {node}")
            if type(connection._protocol) is not _Frames and not connection._requests:
                _quicken(connection)
        return connection


def _send(connection: AIOKafkaConnection, requests: tuple[Any, ...]) -> list[asyncio.Future[Any]]:
    """The answers to come of requests that leave in one write."""
    loop = connection._loop
    parts: list[bytes] = []
    waiting = []
    for request in requests:
        prepared = request.prepare(connection._versions)
        correlation_id = connection._next_correlation_id()
        header = prepared.build_request_header(correlation_id=correlation_id, client_id=connection._client_id)
        content = header.encode() + prepared.encode()
        parts += (_SIZE.pack(len(content)), content)
        waiting.append((correlation_id, prepared, loop.create_future()))
    if connection._writer is None:
        raise KafkaConnectionError(f"no connection to {connection.host}:{connection.port}")
    connection._writer.write(b"".join(parts))
    connection._requests.extend(waiting)
    return [future for _, _, future in waiting]


async def _answer(connection: AIOKafkaConnection, future: asyncio.Future[Any]) -> Any:
    timer = connection._loop.call_later(connection._request_timeout, _time_out, future)
    try:
        return await future
    except TimeoutError:
        connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
        raise RequestTimedOutError from None
    finally:
        timer.cancel()


def _time_out(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
