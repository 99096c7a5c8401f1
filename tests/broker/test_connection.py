"""Answers leave together after the events that came together, but nobody's answer waits for a large request."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterator
from typing import cast

import pytest

from logqueue.broker.network import limits
from logqueue.broker.network.connection import Connection
from logqueue.broker.network.network import Network
from logqueue.broker.network.poller import Poller
from logqueue.broker.network.session import BufferPool, Session
from logqueue.config import BrokerConfig
from tests.loops import in_loop

ANSWER = b"\0\0\0\4done"


class Watching:
    """A poller that is never asked."""

    def register(self, fd: int, owner: object) -> None: ...

    def unregister(self, fd: int) -> None: ...

    def modify(self, fd: int, events: int) -> None: ...

    def note_heavy(self) -> None: ...

    def light_events(self) -> int:
        return 0


class Pair:
    """A connection, its far end, and what happens in which order."""

    def __init__(self) -> None:
        self.far, near = socket.socketpair()
        near.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self.events: list[str] = []
        self.ready: deque[Connection] = deque()
        self.connection = Connection(
            near,
            poller=cast(Poller, Watching()),
            ready=self.ready,
            send_ready=self.send_ready,
            on_closed=lambda _: None,
        )
        self.connection.session = Session(
            peer="127.0.0.1:1",
            local_host="127.0.0.1",
            serve=self.serve,
            on_output=self.connection.note_output,
            scratch=memoryview(bytearray(limits.RECEIVE_BYTES)),
            pool=BufferPool(),
            max_request_bytes=1 << 30,
            max_queued_requests=500,
        )

    def send_ready(self) -> None:
        if self.ready:
            self.events.append("others' answers")
        while self.ready:
            self.ready.popleft().flush()

    def serve(self, session: Session, frame: memoryview) -> None:
        self.events.append(f"{len(frame)} bytes")
        session.answer(ANSWER)

    def receive(self, *sizes: int) -> None:
        """Requests of these sizes come in at once, then the event that tells of them."""
        self.far.sendall(b"".join(map(request, sizes)))
        self.connection.on_readable()


def request(size: int) -> bytes:
    return struct.pack(">i", size) + bytes(size)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.connection.close("the test is over")
    made.far.close()


def test_an_answer_leaves_with_those_of_others_not_before(pair: Pair) -> None:
    pair.receive(10, 20)
    assert pair.events == ["10 bytes", "20 bytes"]
    assert list(pair.ready) == [pair.connection]  # once, however many answers there are
    pair.send_ready()
    assert pair.far.recv(100) == ANSWER * 2


@pytest.mark.parametrize("size", [limits.RECEIVE_BYTES, 3 * limits.RECEIVE_BYTES, 3 * limits.RECEIVE_BYTES + 7])
def test_answers_that_are_ready_leave_before_a_large_request_is_served(pair: Pair, size: int) -> None:
    pair.ready.append(pair.connection)  # stands for another one
    pair.receive(size)
    assert pair.events == ["others' answers", f"{size} bytes"]


def test_a_small_request_does_not_send_the_answers_of_others_early(pair: Pair) -> None:
    pair.ready.append(pair.connection)
    pair.receive(100)
    assert pair.events == ["100 bytes"]


def test_a_request_is_not_served_again_when_the_connection_ends_before_the_rest_of_the_next_one(pair: Pair) -> None:
    """What is read then belongs to a large request, and lies in a buffer of its own; what lay in the shared one was
    served before."""
    pair.far.sendall(request(10) + request(3 * limits.RECEIVE_BYTES)[: limits.RECEIVE_BYTES + 1_000])
    pair.far.close()  # so that sending the first answer fails
    pair.connection.on_readable()
    assert pair.connection.is_closed
    assert pair.events == ["10 bytes", "others' answers"]


def test_a_session_that_has_ended_serves_nothing_of_what_is_left(pair: Pair) -> None:
    session = pair.connection.session
    served = []

    def serve(ending: Session, frame: memoryview) -> None:
        served.append(len(frame))
        ending.close()

    session.serve_with(serve, max_request_bytes=1 << 30)
    pair.receive(10, 20)
    session.resume()
    assert served == [10]


class Unmuted:
    """A session as the network looks at it."""

    is_muted = False


class Peer:
    """A connection as the network mutes it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def mute(self) -> None:
        self.calls.append("mute")

    def unmute(self) -> None:
        self.calls.append("unmute")


@in_loop
async def test_what_a_throttled_client_had_sent_is_served_in_a_turn_with_an_end() -> None:
    """Where fsyncs begin and answers leave."""
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    network = Network(
        asyncio.get_running_loop(),
        BrokerConfig(),
        serve=lambda session, frame: None,
        before_sending=lambda: None,
        after_turn=ended.set_result,
    )
    session, peer = cast(Session, Unmuted()), Peer()
    network._connections[session] = cast(Connection, peer)
    network.mute(session, 0.0)
    async with asyncio.timeout(20):
        assert await ended == 1
    assert peer.calls == ["mute", "unmute"]
    network._connections.clear()
    network.close()
