"""Answers leave together after the events that came together, but nobody's answer waits for a large request."""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Iterator
from typing import cast

import pytest

from logqueue.broker.network import limits
from logqueue.broker.network.connection import Connection
from logqueue.broker.network.poller import Poller
from logqueue.broker.network.session import BufferPool, Session

ANSWER = b"\0\0\0\4done"


class Watching:
    """A poller that is never asked."""

    def register(self, fd: int, owner: object) -> None: ...

    def unregister(self, fd: int) -> None: ...

    def modify(self, fd: int, events: int) -> None: ...


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
        self.far.sendall(b"".join(struct.pack(">i", size) + bytes(size) for size in sizes))
        self.connection.on_readable()


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
