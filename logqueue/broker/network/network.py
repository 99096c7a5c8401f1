"""All connections of a broker: the poller, the listeners, what is ready to be sent, the limits. Knows no request."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from logqueue.broker.network import limits
from logqueue.broker.network.admission import Admission
from logqueue.broker.network.connection import Connection
from logqueue.broker.network.door import Door, Serve
from logqueue.broker.network.listener import Listener, bind, plain_host
from logqueue.broker.network.poller import Poller
from logqueue.broker.network.session import BufferPool, Session
from logqueue.config import INT_MAX, BrokerConfig

log = logging.getLogger("logqueue.broker.network")

_IDLE_SWEEPS = 10  # sweeps without a byte after which a connection is idle, if nothing asks for more frequent ones
_FRAME_SWEEPS = 5  # sweeps that the time of one request is divided into


class Network:
    """Sockets in, frames to `serve`, answers out.

    `before_sending` has what was kept of them served, before answers leave. `after_turn` is called with their number
    after every turn of events, short ones taken together. More than `most_connections` are not taken, whatever the
    configuration says.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: BrokerConfig,
        *,
        serve: Serve,
        before_sending: Callable[[], None],
        after_turn: Callable[[int], None],
        most_connections: int = INT_MAX,
    ) -> None:
        self._loop = loop
        self._config = config
        self._serve = serve
        self._before_sending = before_sending
        self._poller = Poller(loop, after_batch=self.flush, after_turn=after_turn)
        self._listeners: list[Listener] = []
        self._connections: dict[Session, Connection] = {}
        self._ready: deque[Connection] = deque()  # have answers to send
        self._scratch: memoryview | None = None
        limit = config.queued_max_request_bytes
        self._pool = BufferPool(limit=limit if limit > 0 else None, on_room=self._on_room)
        self._is_closed = False
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._resume_timer: asyncio.TimerHandle | None = None
        self._sweep_seconds = (
            min(config.connections_max_idle_ms / _IDLE_SWEEPS, config.frame_timeout_ms / _FRAME_SWEEPS) / 1000
        )
        self._idle_sweeps = config.connections_max_idle_ms / 1000 / self._sweep_seconds
        self._frame_sweeps = config.frame_timeout_ms / 1000 / self._sweep_seconds
        self.admission = Admission(config, most_connections=most_connections)

    @property
    def connection_count(self) -> int:
        return len(self._connections)

    def listen(self, doors: Sequence[Door]) -> None:
        """Open every listener and tell each door its port. Raises CannotListen."""
        for door in doors:
            size = self._config.socket_send_buffer_bytes
            sock = bind(door.endpoint.host, door.endpoint.port, send_buffer_bytes=size)
            listener = Listener(
                sock, poller=self._poller, on_accept=partial(self._accept, door), on_exhausted=self._pause_accepting
            )
            self._listeners.append(listener)
            door.port = listener.port
        self._sweep()

    def configure(self, config: BrokerConfig) -> None:
        """Use another configuration for connections from now on."""
        self._config = config
        self.admission.configure(config)

    def flush(self) -> None:
        """Send every answer that is ready, in order of readiness, one call per connection."""
        ready = self._ready
        self._before_sending()
        while ready:
            connection = ready.popleft()
            try:
                connection.flush()
            except Exception:  # a bug in one connection must not keep the answers of the others
                log.exception("closing %s: sending failed; please report this", connection.session.peer)
                connection.close("bug")
            if not ready:
                self._before_sending()  # sending has made room for requests that were left unread

    def serve_ready(self) -> None:
        """Serve what has arrived, without waiting for the loop to see it; ends as every turn does."""
        self._poller.serve_ready()

    def stop_listening(self) -> None:
        """Take no more connections and watch for idle ones no longer; the others go on."""
        for timer in (self._sweep_timer, self._resume_timer):
            if timer is not None:
                timer.cancel()
        self._sweep_timer = self._resume_timer = None
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def stop_reading(self) -> None:
        """Serve no more requests; answers still leave."""
        for connection in self._connections.values():
            connection.stop_reading()

    @property
    def has_unsent(self) -> bool:
        """Whether any answer still waits for its reader."""
        return any(connection.has_unsent for connection in self._connections.values())

    def close(self) -> None:
        """End every connection now. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self.stop_listening()
        for connection in list(self._connections.values()):
            connection.close("the broker stops")
        self._poller.close()

    # ---- one connection

    def mute(self, session: Session, seconds: float) -> None:
        """Read nothing of a connection for a while (KIP-219)."""
        connection = self._connections.get(session)
        if connection is not None and not session.is_muted:
            connection.mute()
            self._loop.call_later(seconds, self._poller.run, connection.unmute)

    def end(self, session: Session, reason: str) -> None:
        """Close a connection after what it has to send, as far as the socket takes it now."""
        self.flush()
        connection = self._connections.get(session)
        if connection is not None:
            connection.close(reason)

    def _accept(self, door: Door, sock: socket.socket, peer: str) -> None:
        refusal = self.admission.check(peer.rpartition(":")[0], len(self._connections), now_ms=self._loop.time() * 1000)
        if refusal is not None:
            log.warning("refusing %s: %s", peer, refusal)
            sock.close()
            return
        if self.admission.pause_ms:
            self._pause_accepting(self.admission.pause_ms / 1000)
        if self._scratch is None:
            self._scratch = memoryview(bytearray(limits.RECEIVE_BYTES))
        try:
            local_host = plain_host(sock.getsockname()[0])
            connection = self._connect(door, sock)
        except OSError as error:  # it was gone before it began
            log.debug("connection of %s failed at once: %s", peer, error)
            sock.close()
            return
        connection.session = session = Session(
            peer=peer,
            local_host=local_host,
            serve=self._serve,
            on_output=connection.note_output,
            scratch=self._scratch,
            pool=self._pool,
            max_request_bytes=self._config.socket_request_max_bytes,
            max_queued_requests=self._config.queued_max_requests,
            door=door,
        )
        self._connections[session] = connection
        self.admission.enter(session)
        if door.tls is not None or door.gatekeeper is not None:
            self._guard(door, session)

    def _connect(self, door: Door, sock: socket.socket) -> Connection:
        if door.tls is None:
            return Connection(
                sock, poller=self._poller, ready=self._ready, send_ready=self.flush, on_closed=self._forget
            )
        from logqueue.broker.network.tls import TlsConnection

        return TlsConnection(
            sock, door.tls, poller=self._poller, ready=self._ready, send_ready=self.flush, on_closed=self._forget
        )

    def _guard(self, door: Door, session: Session) -> None:
        session.is_authenticated = False
        if door.gatekeeper is not None:
            gate = door.gatekeeper(session)
            session.serve_with(gate, max_request_bytes=self._config.sasl_server_max_receive_size)
        expire = partial(self._expire, session)
        self._loop.call_later(self._config.authentication_timeout_ms / 1000, self._poller.run, expire)

    def _expire(self, session: Session) -> None:
        if not session.is_authenticated:
            self.end(session, "not authenticated within logqueue.authentication.timeout.ms")

    def _forget(self, connection: Connection) -> None:
        if self._connections.pop(connection.session, None) is not None:
            self.admission.leave(connection.session)

    def _on_room(self) -> None:
        """Frames that waited for memory may begin; not now, in the middle of another one."""
        self._poller.call_soon(self._feed_starved)

    def _feed_starved(self) -> None:
        starved, self._pool.starved = self._pool.starved, []
        for session in starved:
            connection = self._connections.get(session)
            if connection is not None:
                connection.resume()

    # ---- the listeners

    def _pause_accepting(self, seconds: float = limits.ACCEPT_PAUSE_SECONDS) -> None:
        for listener in self._listeners:
            listener.pause()
        if self._resume_timer is not None:
            self._resume_timer.cancel()
        self._resume_timer = self._loop.call_later(seconds, self._resume_accepting)

    def _resume_accepting(self) -> None:
        for listener in self._listeners:
            listener.resume()

    # ---- what takes too long

    def _sweep(self) -> None:
        for session, connection in list(self._connections.items()):
            connection.idle_turns += 1
            if connection.idle_turns > self._idle_sweeps and not session.queued_requests and not session.is_muted:
                connection.close("idle for longer than connections.max.idle.ms")
                continue
            unfinished = session.unfinished_bytes
            if unfinished is None or session.is_full or connection.has_unsent:  # or it is we who do not read
                connection.slow_turns = 0
                continue
            # A request that arrives in drips holds memory: it has to go on, or to end.
            connection.slow_turns += 1
            if connection.slow_turns == 1:
                connection.frame_mark = unfinished
            elif connection.slow_turns > self._frame_sweeps:
                if unfinished - connection.frame_mark < limits.FRAME_PROGRESS_BYTES:
                    connection.close("its request did not arrive within logqueue.frame.timeout.ms")
                else:
                    connection.slow_turns = 0
        self._sweep_timer = self._loop.call_later(self._sweep_seconds, self._sweep)
