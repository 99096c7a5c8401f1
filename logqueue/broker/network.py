"""All connections of a broker: the poller, the listener, what is ready to be sent, and the limits. Knows no request."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from logqueue.broker import limits
from logqueue.broker.connection import Connection
from logqueue.broker.listener import Listener, bind
from logqueue.broker.poller import Poller
from logqueue.broker.session import BufferPool, Session
from logqueue.config import BrokerConfig

log = logging.getLogger("logqueue.broker.network")

_IDLE_SWEEPS = 10  # sweeps without a byte after which a connection is idle


class Network:
    """Sockets in, frames to `serve`, answers out.

    `after_batch` is called once after every batch of events.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: BrokerConfig,
        *,
        serve: Callable[[Session, memoryview], None],
        after_batch: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._config = config
        self._serve = serve
        self._poller = Poller(loop, after_event=self.flush, after_batch=after_batch)
        self._listener: Listener | None = None
        self._connections: dict[Connection, None] = {}
        self._ready: list[Connection] = []  # have answers to send
        self._scratch: memoryview | None = None
        self._pool = BufferPool()
        self._is_closed = False
        self._idle_timer: asyncio.TimerHandle | None = None
        self._resume_timer: asyncio.TimerHandle | None = None

    @property
    def connection_count(self) -> int:
        return len(self._connections)

    def listen(self) -> int:
        """Open the port of the configuration; gives the port that was bound. Raises CannotListen."""
        sock = bind(self._config.host, self._config.port)
        self._listener = Listener(sock, poller=self._poller, on_accept=self._accept, on_exhausted=self._pause_accepting)
        self._sweep_idle()
        return self._listener.port

    def flush(self) -> None:
        """Send every answer that is ready, one call per connection."""
        ready = self._ready
        while ready:
            connection = ready.pop()
            try:
                connection.flush()
            except Exception:  # a bug in one connection must not keep the answers of the others
                log.exception("closing %s: sending failed; please report this", connection.session.peer)
                connection.close("bug")

    def stop_listening(self) -> None:
        """Take no more connections and watch for idle ones no longer; the others go on."""
        for timer in (self._idle_timer, self._resume_timer):
            if timer is not None:
                timer.cancel()
        self._idle_timer = self._resume_timer = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def stop_reading(self) -> None:
        """Serve no more requests; answers still leave."""
        for connection in self._connections:
            connection.stop_reading()

    @property
    def has_unsent(self) -> bool:
        """Whether any answer still waits for its reader."""
        return any(connection.has_unsent for connection in self._connections)

    def close(self) -> None:
        """End every connection now. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self.stop_listening()
        for connection in list(self._connections):
            connection.close("the broker stops")
        self._poller.close()

    def _accept(self, sock: socket.socket, peer: str) -> None:
        if len(self._connections) >= self._config.max_connections:
            log.warning("refusing %s: max.connections is %d", peer, self._config.max_connections)
            sock.close()
            return
        if self._scratch is None:
            self._scratch = memoryview(bytearray(limits.RECEIVE_BYTES))
        connection = Connection(sock, poller=self._poller, ready=self._ready, on_closed=self._forget)
        connection.session = Session(
            peer=peer,
            local_host=sock.getsockname()[0],
            serve=self._serve,
            on_output=connection.note_output,
            scratch=self._scratch,
            pool=self._pool,
            max_request_bytes=self._config.socket_request_max_bytes,
            max_queued_requests=self._config.queued_max_requests,
        )
        self._connections[connection] = None

    def _forget(self, connection: Connection) -> None:
        self._connections.pop(connection, None)

    def _pause_accepting(self) -> None:
        self._resume_timer = self._loop.call_later(limits.ACCEPT_PAUSE_SECONDS, self._resume_accepting)

    def _resume_accepting(self) -> None:
        if self._listener is not None:
            self._listener.resume()

    def _sweep_idle(self) -> None:
        for connection in list(self._connections):
            connection.idle_turns += 1
            if connection.idle_turns > _IDLE_SWEEPS and not connection.session.queued_requests:
                connection.close("idle for longer than connections.max.idle.ms")
        interval = self._config.connections_max_idle_ms / 1000 / _IDLE_SWEEPS
        self._idle_timer = self._loop.call_later(interval, self._sweep_idle)
