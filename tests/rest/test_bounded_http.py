"""A request that has no end, or does not get on, ends with its connection; all others never notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import uvicorn
from logqueue_api.rest.bounded_http import MAX_HEAD_BYTES, WINDOW_BYTES, WINDOW_SECONDS, BoundedHttpProtocol
from uvicorn.server import ServerState

from tests.loops import in_loop

GET = b"GET / HTTP/1.1\r\nhost: api\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: api\r\ncontent-length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: api\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CLOSED = b"(closed)"


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.done = b""

    def write(self, data: Any) -> None:
        self.done += data

    def close(self) -> None:
        self.done += CLOSED

    def is_closing(self) -> bool:
        return CLOSED in self.done

    def pause_reading(self) -> None:
        return None

    def resume_reading(self) -> None:
        return None


class _Timer:
    def __init__(self, delay: float, callback: Callable[[], None]) -> None:
        self.delay = delay
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class _Loop:
    """The running loop, whose timers run when they are told to."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.timers: list[_Timer] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_later(self, delay: float, callback: Callable[[], None]) -> _Timer:
        self.timers.append(_Timer(delay, callback))
        return self.timers[-1]


class _Connection:
    """A client's end. The app reads the body and then answers, once it may."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.bodies: list[bytes | None] = []
        self._loop = _Loop()
        config = uvicorn.Config(self._app, interface="asgi3", log_config=None, proxy_headers=False)
        config.load()
        self._protocol = BoundedHttpProtocol(config, ServerState(), {}, cast(Any, self._loop))
        self._transport = _Transport()
        self._protocol.connection_made(self._transport)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body, has_more = b"", True
        while has_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.bodies.append(None)
                return
            body, has_more = body + message["body"], message["more_body"]
        self.bodies.append(body)
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    @property
    def waits(self) -> list[float]:
        """Timers that are set."""
        return [timer.delay for timer in self._loop.timers if timer.callback is not None]

    async def send(self, data: bytes) -> bytes:
        """What has come by then, all in all; each read of the server has at most 64 KiB."""
        for begin in range(0, len(data), 65_536):
            if not self._transport.is_closing():
                self._protocol.data_received(data[begin : begin + 65_536])
                await self._settle()
        await self._settle()
        return self._transport.done

    async def pass_window(self) -> bytes:
        """Let the time of a window go by."""
        for timer in [timer for timer in self._loop.timers if timer.delay == WINDOW_SECONDS]:
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
        await self._settle()
        return self._transport.done

    async def lose(self) -> None:
        """The connection is no more."""
        self._protocol.connection_lost(None)
        await self._settle()

    async def _settle(self) -> None:
        turns = 20
        while turns > 0:
            before = self._transport.done
            await asyncio.sleep(0)
            turns = turns - 1 if self._transport.done == before else 20


@in_loop
async def test_a_head_too_large_is_431_and_the_end() -> None:
    for line in (b"a:b\r\n", b"a" * 100):  # many headers, or one
        connection = _Connection()
        answer = await connection.send(b"GET / HTTP/1.1\r\n" + line * (MAX_HEAD_BYTES // len(line) + 1))
        assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n"), answer[:100]
        assert b"content-type: application/problem+json\r\n" in answer
        assert b"connection: close\r\n" in answer
        assert answer.endswith(b"}" + CLOSED)
        await connection.lose()
        assert connection.waits == []


@in_loop
async def test_a_large_head_within_the_bound_and_a_large_body_are_taken() -> None:
    connection = _Connection()
    head = b"x-long: " + b"a" * (MAX_HEAD_BYTES - 1_000) + b"\r\n"
    assert await connection.send(GET.replace(b"\r\n\r\n", b"\r\n" + head + b"\r\n")) == OK
    body = b"a" * (10 * MAX_HEAD_BYTES)
    assert await connection.send(POST % len(body) + body) == OK * 2
    assert connection.bodies == [b"", body]


@in_loop
async def test_trailers_without_end_are_the_end() -> None:
    connection = _Connection()
    assert await connection.send(CHUNKED + b"a:b\r\n" * (MAX_HEAD_BYTES // 2)) == CLOSED
    await connection.lose()
    assert connection.bodies == [None]


@in_loop
async def test_many_requests_in_one_read_are_no_large_head() -> None:
    connection = _Connection()
    many = MAX_HEAD_BYTES // len(GET)
    assert await connection.send(GET * many + GET[:10]) == OK * many
    assert await connection.send(GET[10:]) == OK * (many + 1)


@in_loop
async def test_a_request_in_one_piece_has_no_timer_but_the_one_of_keep_alive() -> None:
    connection = _Connection()
    assert connection.waits == [WINDOW_SECONDS]
    connection.may_answer.clear()
    assert await connection.send(GET) == b""
    assert connection.waits == []
    connection.may_answer.set()
    assert await connection.send(b"") == OK
    assert await connection.send(GET) == OK * 2
    assert WINDOW_SECONDS not in connection.waits
    assert len(connection.waits) == 1


@in_loop
async def test_a_connection_that_says_nothing_is_closed() -> None:
    connection = _Connection()
    assert await connection.pass_window() == CLOSED


@in_loop
async def test_a_head_that_drips_is_closed() -> None:
    connection = _Connection()
    assert await connection.send(GET) == OK
    await connection.send(GET[:5])
    assert await connection.send(GET[5:6]) == OK
    assert await connection.pass_window() == OK + CLOSED


@in_loop
async def test_a_request_that_begins_late_has_a_window_of_its_own() -> None:
    connection = _Connection()
    await connection.send(GET[:5])
    assert await connection.pass_window() == b""
    await connection.send(GET[5:6])
    assert await connection.pass_window() == CLOSED


@in_loop
async def test_empty_lines_do_not_keep_a_connection() -> None:
    connection = _Connection()
    assert await connection.send(GET + b"\r\n") == OK
    assert await connection.send(b"\r\n") == OK
    assert await connection.pass_window() == OK + CLOSED


@in_loop
async def test_a_body_that_drips_is_the_end_and_one_that_is_slow_is_not() -> None:
    connection = _Connection()
    await connection.send(POST % (3 * WINDOW_BYTES))
    for _ in range(2):
        assert await connection.pass_window() == b""
        assert await connection.send(b"a" * WINDOW_BYTES) == b""
    assert await connection.pass_window() == b""
    await connection.send(b"a" * 100)
    assert await connection.pass_window() == CLOSED
    await connection.lose()
    assert connection.bodies == [None]
    assert connection.waits == []


@in_loop
async def test_who_waits_for_an_answer_is_not_slow() -> None:
    connection = _Connection()
    connection.may_answer.clear()
    await connection.send(GET)
    await connection.send(b"\r\n")  # as some old clients end a request
    await connection.pass_window()
    assert await connection.pass_window() == b""
    connection.may_answer.set()
    assert await connection.send(b"") == OK


@in_loop
async def test_who_is_not_read_is_not_slow() -> None:
    connection = _Connection()
    connection.may_answer.clear()
    await connection.send(GET + POST % 2)  # the second waits for the first one's answer
    await connection.pass_window()
    assert await connection.pass_window() == b""
    connection.may_answer.set()
    assert await connection.send(b"{}") == OK * 2
