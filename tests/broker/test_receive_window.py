"""A sender of large requests is held back while small ones come beside it, loses nothing, and is let go afterwards."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from logqueue.broker.network import limits
from logqueue.broker.network.receive_window import ReceiveWindow
from logqueue.testing import EmbeddedBroker
from tests.broker.ends import other_end
from tests.broker.wire import Wire, batch, create_topic, fetch_request, produced, values_of

SO_BUF_LOCK = 72
SET_BY_HAND = 2  # of the receive buffer

Settings = tuple[int, int]


def settings(sock: socket.socket) -> Settings:
    """(SO_BUF_LOCK, TCP_WINDOW_CLAMP)."""
    clamp = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP)
    return sock.getsockopt(socket.SOL_SOCKET, SO_BUF_LOCK), clamp


class Traffic:
    """A window, and what comes beside its connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.light = 0
        self.window = ReceiveWindow(sock, lambda: self.light)

    def looks(self, *, light: int, times: int = 1) -> None:
        """So many looks of the window, with `light` small requests before each."""
        for _ in range(times):
            self.light += light
            for _ in range(limits.READS_PER_LOOK):
                self.window.note_read()


@pytest.fixture
def near(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """One end of a connection over the loopback interface; the far end has the address that the test asks for."""
    source = (getattr(request, "param", "127.0.0.1"), 0)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), source_address=source),
        listener.accept()[0] as accepted,
    ):
        yield accepted


def test_small_requests_beside_narrow_the_window(near: socket.socket) -> None:
    traffic = Traffic(near)
    before = settings(near)
    traffic.looks(light=limits.LIGHT_EVENTS_TO_NARROW - 1, times=100)  # a heartbeat now and then
    assert settings(near) == before
    traffic.looks(light=limits.LIGHT_EVENTS_TO_NARROW)
    assert settings(near) == (before[0] | SET_BY_HAND, limits.NARROW_WINDOW_BYTES)


@pytest.mark.parametrize("lock", [0, 1, SET_BY_HAND])
def test_it_is_as_it_was_once_they_have_stopped(near: socket.socket, lock: int) -> None:
    near.setsockopt(socket.SOL_SOCKET, SO_BUF_LOCK, lock)
    traffic = Traffic(near)
    before = settings(near)
    for _ in range(3):
        traffic.looks(light=50)
        traffic.looks(light=0, times=limits.CALM_LOOKS_TO_WIDEN - 1)
        traffic.looks(light=50)  # they have not
        traffic.looks(light=0, times=limits.CALM_LOOKS_TO_WIDEN - 1)
        assert settings(near) == (lock | SET_BY_HAND, limits.NARROW_WINDOW_BYTES)
        traffic.looks(light=0)
        assert settings(near) == before


@pytest.mark.parametrize("near", ["127.0.0.2"], indirect=True)
def test_a_sender_from_another_address_keeps_its_window(near: socket.socket) -> None:
    before = settings(near)
    Traffic(near).looks(light=50, times=20)
    assert settings(near) == before


def test_a_socket_that_is_not_tcp_has_none() -> None:
    one, other = socket.socketpair()
    with one, other:
        Traffic(one).looks(light=50, times=20)


def test_a_kernel_that_cannot_let_go_again_is_asked_once(near: socket.socket) -> None:
    class Old:
        family = near.family
        getpeername = near.getpeername
        getsockname = near.getsockname
        asked = 0

        def getsockopt(self, level: int, option: int) -> int:
            self.asked += 1
            raise OSError(92, "Protocol not available")

    old = Old()
    Traffic(old).looks(light=50, times=20)  # type: ignore[arg-type]
    assert old.asked == 1


def test_a_producer_of_large_batches_beside_small_requests_loses_nothing() -> None:
    value = bytes(range(256)) * 3_000  # ten times what a narrow window holds
    with EmbeddedBroker(fsync=False) as broker, Wire(broker.bootstrap) as large, Wire(broker.bootstrap) as small:
        create_topic(large, "large")
        create_topic(small, "small")
        with other_end(large.socket) as end:
            lock = settings(end)[0]  # the clamp grows with what comes in
            rounds = alone = 0
            while settings(end)[0] == lock and rounds < 300:
                assert produced(large, "large", batch(value)).error_code == 0
                for _ in range(40):  # more than a large one has events
                    produced(small, "small", batch(b"1"))
                rounds += 1
            assert settings(end) == (lock | SET_BY_HAND, limits.NARROW_WINDOW_BYTES)
            while settings(end)[0] != lock and alone < 300:
                assert produced(large, "large", batch(value)).error_code == 0
                alone += 1
            assert settings(end)[0] == lock
        for offset in range(rounds + alone):
            assert values_of(large.call(11, fetch_request("large", offset, max_bytes=1)))[0] == value
