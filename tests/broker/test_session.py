"""The byte level of a connection: frames in whatever pieces, answers in the order of the requests."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from logqueue.broker.network import limits
from logqueue.broker.network.session import BufferPool, FrameTooLarge, Session, Slot
from logqueue.protocol.frames import RequestHeader


def frame(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


class Server:
    """Answers each frame with itself, at once or when told to."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.at_once = at_once
        self.frames: list[bytes] = []
        self.slots: list[Slot] = []

    def serve(self, session: Session, view: memoryview) -> None:
        self.frames.append(bytes(view))
        slot = session.open_slot(RequestHeader(0, 0, len(self.frames), None))
        self.slots.append(slot)
        if self.at_once:
            slot.fill([bytes(view)])


@pytest.fixture
def make() -> Callable[..., Session]:
    def build(server: Server, *, max_queued: int = 100, max_bytes: int = 10_000_000, scratch: int = 1024) -> Session:
        return Session(
            peer="test",
            local_host="127.0.0.1",
            serve=server.serve,
            on_output=lambda: None,
            scratch=memoryview(bytearray(scratch)),
            pool=BufferPool(),
            max_request_bytes=max_bytes,
            max_queued_requests=max_queued,
        )

    return build


def feed(session: Session, data: bytes, *, piece: int | None = None) -> None:
    """Give bytes to the session as a socket would, at most `piece` at a time."""
    rest = data
    while rest:
        target = session.receive_buffer()
        count = min(len(rest), len(target), piece or len(rest))
        target[:count] = rest[:count]
        session.received(count)
        rest = rest[count:]


@pytest.mark.parametrize("piece", range(1, 31))
def test_frames_are_found_however_the_stream_is_cut(make: Callable[..., Session], piece: int) -> None:
    server = Server()
    bodies = [b"", b"a", b"two", b"x" * 9]
    feed(make(server), b"".join(map(frame, bodies)), piece=piece)
    assert server.frames == bodies


def test_a_frame_larger_than_every_buffer_is_put_together(make: Callable[..., Session]) -> None:
    server = Server()
    body = bytes(range(256)) * ((3 * limits.FRAME_BUFFER_BYTES) // 256 + 1)
    session = make(server)
    feed(session, frame(body) + frame(b"next"))
    assert server.frames == [body, b"next"]


def test_the_memory_of_a_frame_grows_with_what_arrived_not_with_what_was_announced(
    make: Callable[..., Session],
) -> None:
    session = make(Server(), max_bytes=100_000_000)
    feed(session, struct.pack(">i", 99_000_000) + b"x" * 100)
    assert len(session.receive_buffer()) <= limits.FRAME_BUFFER_BYTES


@pytest.mark.parametrize("size", [-1, 1001, 2**31 - 1])
def test_a_size_outside_the_limits_is_refused(make: Callable[..., Session], size: int) -> None:
    session = make(Server(), max_bytes=1000)
    with pytest.raises(FrameTooLarge, match=r"socket\.request\.max\.bytes is 1000"):
        feed(session, struct.pack(">i", size))


def test_answers_leave_in_the_order_of_the_requests(make: Callable[..., Session]) -> None:
    server = Server(at_once=False)
    session = make(server)
    feed(session, frame(b"1") + frame(b"2") + frame(b"3"))
    server.slots[2].fill([b"third"])
    server.slots[1].fill([b"second", b"!"])
    assert session.take_output() == []
    server.slots[0].fill([b"first"])
    assert session.take_output() == [b"first", b"second", b"!", b"third"]
    assert session.take_output() == []


def test_a_request_without_an_answer_holds_nobody_up(make: Callable[..., Session]) -> None:
    server = Server(at_once=False)
    session = make(server)
    feed(session, frame(b"1") + frame(b"2"))
    server.slots[1].fill([b"second"])
    server.slots[0].fill([])
    assert session.take_output() == [b"second"]


def test_serving_pauses_at_the_limit_of_unanswered_requests_and_loses_nothing(make: Callable[..., Session]) -> None:
    server = Server(at_once=False)
    session = make(server, max_queued=4)
    feed(session, b"".join(frame(b"%d" % n) for n in range(10)) + frame(b"tail")[:3])
    assert len(server.frames) == 4
    assert session.is_full
    for slot in server.slots[:2]:
        slot.fill([])
    session.resume()
    assert len(server.frames) == 6
    while session.queued_requests:
        for slot in server.slots[-session.queued_requests :]:
            slot.fill([])
        session.resume()
    assert server.frames == [b"%d" % n for n in range(10)]
    assert not session.is_full
    feed(session, frame(b"tail")[3:])
    assert server.frames[-1] == b"tail"


def test_closing_tells_open_requests_and_drops_late_answers(make: Callable[..., Session]) -> None:
    server = Server(at_once=False)
    session = make(server)
    feed(session, frame(b"1"))
    told = []
    server.slots[0].abandon = lambda: told.append(1)
    session.close()
    session.close()
    assert told == [1]
    server.slots[0].fill([b"late"])
    assert session.take_output() == []


def test_large_frames_reuse_one_buffer(make: Callable[..., Session]) -> None:
    seen = set()

    class Keeper(Server):
        def serve(self, session: Session, view: memoryview) -> None:
            seen.add(id(view.obj))

    session = make(Keeper())
    for _ in range(5):
        feed(session, frame(b"x" * 100_000))
    assert len(seen) == 1


def test_serving_pauses_while_too_many_answer_bytes_wait(make: Callable[..., Session]) -> None:
    class Generous(Server):
        def serve(self, session: Session, view: memoryview) -> None:
            self.frames.append(bytes(view))
            slot = session.open_slot(RequestHeader(0, 0, len(self.frames), None))
            slot.fill([bytes(limits.QUEUED_RESPONSE_BYTES // 2)])

    server = Generous()
    session = make(server)
    feed(session, frame(b"x") * 50)
    sent = 0
    while output := session.take_output():
        assert len(output) <= 3
        sent += len(output)
        session.resume()
    assert sent == 50
