"""What an answer is made of leaves in one write, in order, and before its connection is closed."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import uvicorn
from logqueue_api.rest.joined_writes import MAX_HELD_BYTES, JoinedHttpProtocol, JoinedWrites
from uvicorn.server import ServerState

from tests.loops import in_loop

REQUEST = b"GET / HTTP/1.1\r\nhost: api\r\n\r\n"


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.done: list[bytes] = []

    def write(self, data: Any) -> None:
        self.done.append(bytes(data))

    def close(self) -> None:
        self.done.append(b"(closed)")

    def is_closing(self) -> bool:
        return False

    def resume_reading(self) -> None:
        return None


def joined() -> tuple[JoinedWrites, _Transport]:
    transport = _Transport()
    return JoinedWrites(transport, asyncio.get_running_loop()), transport


@in_loop
async def test_writes_of_one_turn_are_one_write() -> None:
    writes, transport = joined()
    writes.write(b"head")
    writes.write(b"body")
    assert transport.done == []
    await asyncio.sleep(0)
    writes.write(b"more")
    await asyncio.sleep(0)
    assert transport.done == [b"headbody", b"more"]


@in_loop
async def test_much_is_written_at_once() -> None:
    writes, transport = joined()
    writes.write(b"head")
    writes.write(bytes(MAX_HELD_BYTES))
    assert [len(each) for each in transport.done] == [4 + MAX_HELD_BYTES]
    writes.write(b"rest")
    await asyncio.sleep(0)
    assert transport.done[1:] == [b"rest"]


@in_loop
async def test_closing_writes_what_is_held_first() -> None:
    writes, transport = joined()
    writes.write(b"last")
    writes.close()
    await asyncio.sleep(0)
    assert transport.done == [b"last", b"(closed)"]
    assert not writes.is_closing()  # asked of the transport


@in_loop
async def test_an_answer_over_http_is_one_write() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = uvicorn.Config(app, log_config=None, proxy_headers=False)
    config.load()
    protocol = JoinedHttpProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    transport = _Transport()
    protocol.connection_made(transport)
    for _ in range(2):
        protocol.data_received(REQUEST)
        while protocol.server_state.tasks:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    assert transport.done == [answer, answer]
    protocol.connection_lost(cast(Any, None))
