"""A TCP proxy between clients and a broker that cuts and stalls connections on command. Knows no Kafka."""

from __future__ import annotations

import selectors
import socket
import threading
from random import Random

CHUNK_BYTES = 65_536
BACKLOG = 128
TICK_SECONDS = 0.05
CONNECT_SECONDS = 0.2


class Proxy:
    """Listens on a port of its own and passes bytes to and from `target`; one thread for all connections."""

    def __init__(self, target: tuple[str, int], *, port: int = 0) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        self._is_stalled = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def cut(self, random: Random, share: float = 1.0) -> int:
        """End a share of the connections, with a reset in the middle of whatever they say; answers how many."""
        with self._lock:
            doomed = [each for each in self._peers if random.random() < share]
            for each in doomed:
                if each in self._peers:
                    self._drop(each)
            return len(doomed)

    def stall(self, is_stalled: bool) -> None:
        """While stalled nothing passes, and new connections are taken but not answered."""
        self._is_stalled = is_stalled

    def close(self) -> None:
        self._is_closed = True
        self._thread.join()
        with self._lock:
            for each in list(self._peers):
                if each in self._peers:
                    self._drop(each)
        self._listener.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._is_closed:
            if self._is_stalled:
                threading.Event().wait(TICK_SECONDS)
                continue
            for key, _ in self._selector.select(TICK_SECONDS):
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source is self._listener:
                    self._accept()
                else:
                    self._pass_on(source)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            broker = socket.create_connection(self._target, CONNECT_SECONDS)
        except OSError:
            client.close()  # the broker is away, and the client is to know
            return
        with self._lock:
            for one, other in ((client, broker), (broker, client)):
                one.setblocking(True)
                one.settimeout(1.0)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._peers[one] = other
                self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        with self._lock:
            target = self._peers.get(source)
            if target is None:
                return
            try:
                data = source.recv(CHUNK_BYTES)
                if data:
                    target.sendall(data)
                    return
            except OSError:
                pass  # one side is gone, so the other goes too
            self._drop(source)

    def _drop(self, one: socket.socket) -> None:
        other = self._peers.pop(one)
        del self._peers[other]
        for each in (one, other):
            self._selector.unregister(each)
            # A linger of 0 sends a reset, and what is on its way is lost, as when a machine goes.
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            each.close()
