"""The listening socket: takes connections in and hands them over. Knows no protocol."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable

from logqueue.broker.network import limits
from logqueue.broker.network.poller import READABLE, Poller
from logqueue.errors import LogqueueError

log = logging.getLogger("logqueue.broker.network.listener")

_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class CannotListen(LogqueueError):
    """The address cannot be listened on; the text says why and what to do."""


def bind(host: str, port: int, *, send_buffer_bytes: int = -1) -> socket.socket:
    """A listening, non-blocking socket on `host`:`port`. Raises CannotListen.

    An empty host is every IPv4 address of this machine, a port of 0 any free one. Its connections get a send buffer of
    `send_buffer_bytes` (SO_SNDBUF), -1 leaves it to the system.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise CannotListen(f"cannot listen on {host}: {error.strerror}; give an address of this machine") from None
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if send_buffer_bytes >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        sock.bind(address)
        sock.listen(limits.LISTEN_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise CannotListen(explain(host, port, error)) from None
    return sock


def explain(host: str, port: int, error: OSError) -> str:
    """Why an address cannot be listened on, and what to do."""
    host = host or "all addresses"
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} on {host} is taken by another program; stop that, or choose another port (0: any)"
        case errno.EACCES:
            return f"not allowed to listen on port {port}; choose a port above 1023 (0: any free one)"
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine; choose one that is (127.0.0.1 for this machine only)"
        case _:
            return f"cannot listen on {host}:{port}: {error.strerror}"


def format_address(host: str, port: int) -> str:
    """`host:port` as clients take it; IPv6 addresses in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain_host(host: str) -> str:
    """An address of a socket; of IPv4 over an IPv6 socket (`::ffff:10.0.0.5`) without that, as Java writes it."""
    short = host.removeprefix("::ffff:")
    return short if "." in short else host


class Listener:
    """Accepts connections while there is room for them."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        poller: Poller,
        on_accept: Callable[[socket.socket, str], None],
        on_exhausted: Callable[[], None],
    ) -> None:
        """`on_exhausted` is called when descriptors ran out: it has to `pause` for a while."""
        self._socket = sock
        self._is_paused = False
        self._poller = poller
        self._on_accept = on_accept
        self._on_exhausted = on_exhausted
        poller.register(sock.fileno(), self)

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def on_readable(self) -> None:
        for _ in range(limits.ACCEPTS_PER_TURN):
            try:
                sock, address = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
                    log.error("accepting a connection failed: %s", error.strerror)
                    return
                log.error("no descriptors left for connections (ulimit -n): pausing %g s", limits.ACCEPT_PAUSE_SECONDS)
                self._on_exhausted()
                return
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._on_accept(sock, f"{plain_host(address[0])}:{address[1]}")
            if self._is_paused:
                return

    def on_writable(self) -> None:
        """Never asked for."""

    def pause(self) -> None:
        """Leave connections in the backlog until `resume`."""
        if self._socket.fileno() >= 0 and not self._is_paused:
            self._is_paused = True
            self._poller.modify(self._socket.fileno(), 0)

    def resume(self) -> None:
        if self._socket.fileno() >= 0 and self._is_paused:
            self._is_paused = False
            self._poller.modify(self._socket.fileno(), READABLE)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._poller.unregister(self._socket.fileno())
            self._socket.close()
