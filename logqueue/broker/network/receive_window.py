"""How far a sender of large requests on this machine may run ahead of the broker. Knows no request."""

from __future__ import annotations

import socket
from collections.abc import Callable

from logqueue.broker.network import limits

_SO_BUF_LOCK = 72  # Linux 5.14, socket(7): which buffers do not grow by themselves
_SOCK_RCVBUF_LOCK = 2


class ReceiveWindow:
    """The TCP window of one connection that brings large requests.

    By itself it grows to megabytes: the sender runs ahead, and never sleeps. If it shares the processors, whoever sends
    a small request beside it waits for milliseconds until it has had its time slice. So a sender on this machine gets a
    narrow window while small requests come beside its own, and the system's again once they have stopped. The window is
    clamped and not the buffer made smaller: what has been offered may still arrive, and would be dropped.
    """

    __slots__ = ("_before", "_calm_looks", "_is_able", "_light_before", "_light_events", "_reads", "_socket")

    def __init__(self, sock: socket.socket, light_events: Callable[[], int]) -> None:
        """`light_events` says how many events there were so far, of all connections, that moved little."""
        self._socket = sock
        self._light_events = light_events
        self._is_able = _is_from_here(sock)
        self._before: tuple[int, int] | None = None  # lock and clamp as they were, while the window is narrow
        self._light_before = light_events()
        self._reads = 0  # since the last look
        self._calm_looks = 0  # in a row, without a small request

    def note_read(self) -> None:
        """An event has brought a large request, or a part of one. Raises OSError if the connection has ended."""
        self._reads += 1
        if self._reads < limits.READS_PER_LOOK:
            return
        self._reads = 0
        light = self._light_events()
        came = light - self._light_before
        self._light_before = light
        if came >= limits.LIGHT_EVENTS_TO_NARROW:
            self._calm_looks = 0
            if self._before is None and self._is_able:
                self._narrow()
        elif self._before is not None:
            self._calm_looks += 1
            if self._calm_looks == limits.CALM_LOOKS_TO_WIDEN:
                self._set(*self._before)
                self._before = None

    def _narrow(self) -> None:
        try:
            lock = self._socket.getsockopt(socket.SOL_SOCKET, _SO_BUF_LOCK)
        except OSError:  # an older kernel, which would undo the clamp whenever the buffer grows
            self._is_able = False
            return
        clamp = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP)
        self._set(lock | _SOCK_RCVBUF_LOCK, limits.NARROW_WINDOW_BYTES)
        self._before = lock, clamp

    def _set(self, lock: int, clamp: int) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_BUF_LOCK, lock)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, clamp)


def _is_from_here(sock: socket.socket) -> bool:
    """True for a TCP connection from this machine. One from another needs its window: it holds what is on the line."""
    return sock.family != socket.AF_UNIX and sock.getpeername()[0] == sock.getsockname()[0]
