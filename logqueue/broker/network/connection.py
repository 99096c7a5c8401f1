"""A plain TCP connection: moves bytes between a non-blocking socket and its Session. Knows no request."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable

from logqueue.broker.network import limits
from logqueue.broker.network.cold_reads import leading_cached, read_cached, read_in
from logqueue.broker.network.poller import READABLE, WRITABLE, Poller
from logqueue.broker.network.receive_window import ReceiveWindow
from logqueue.broker.network.session import Session, memory_of
from logqueue.errors import LogqueueError
from logqueue.protocol.wire import FileSlice, Segment

log = logging.getLogger("logqueue.broker.network.connection")

_IOV_MAX = 512


class Connection:
    """The socket half of a connection."""

    __slots__ = (
        "_backlog",
        "_events",
        "_fd",
        "_is_reading_in",
        "_on_closed",
        "_poller",
        "_queued_bytes",
        "_ready",
        "_send_ready",
        "_socket",
        "_window",
        "frame_mark",
        "idle_turns",
        "session",
        "slow_turns",
    )

    def __init__(
        self,
        sock: socket.socket,
        *,
        poller: Poller,
        ready: deque[Connection],
        send_ready: Callable[[], None],
        on_closed: Callable[[Connection], None],
    ) -> None:
        """Takes ownership of `sock`, which is non-blocking; `session` has to be set before events arrive.

        `ready` is where a connection enters itself when it has something to send; `send_ready` has them all send it.
        """
        self.session: Session
        self.idle_turns = 0  # sweeps since something was read: no clock on the hot path
        self.slow_turns = 0  # sweeps since the request that is arriving last made headway
        self.frame_mark = 0  # bytes of it that were here then
        self._ready = ready
        self._send_ready = send_ready
        self._is_reading_in = False  # a thread waits for the disk, for what is to be sent next
        self._socket = sock
        self._fd = sock.fileno()
        self._poller = poller
        self._on_closed = on_closed
        self._backlog: deque[Segment] | None = None  # what the socket did not take
        self._queued_bytes = 0
        self._window: ReceiveWindow | None = None  # from the first large request on
        self._events = READABLE
        poller.register(self._fd, self)

    @property
    def is_closed(self) -> bool:
        return self._fd < 0

    @property
    def has_unsent(self) -> bool:
        return self._backlog is not None

    def on_readable(self) -> None:
        if self._fd < 0:
            return
        if not self._events & READABLE:  # only a hang-up is reported while reading is paused
            self.close("hung up while its answers were waiting")
            return
        self._serve(self._read)

    def note_output(self) -> None:
        """The session has an answer to send, with those of others."""
        self._ready.append(self)

    def _serve(self, step: Callable[[], None]) -> None:
        """Run a step that serves requests; what goes wrong in it ends this connection and nothing else."""
        try:
            step()
        except OSError as error:
            self.close(f"read failed: {error.strerror}")
        except LogqueueError as error:
            log.warning("closing %s: %s", self.session.peer, error)
            self.close("bad request")
        except Exception:
            log.exception("closing %s: a request failed in an unforeseen way; please report this", self.session.peer)
            self.close("bug")

    def _read(self) -> None:
        session = self.session
        receive = self._socket.recv_into
        self.idle_turns = 0
        budget = limits.READ_TURN_BYTES
        is_large = False
        while budget > 0:
            target = session.receive_buffer()
            try:
                count = receive(target)
            except BlockingIOError:
                break
            if not count:
                self.close("closed by peer")
                return
            room = len(target)
            if count == room or room != limits.RECEIVE_BYTES:
                is_large = True
                self._send_ready()  # a large request, or a part of one: nobody's answer waits for it
                if self._fd < 0:
                    return  # sending has ended it, and what was read belongs to nobody
            session.received(count)
            if session.is_full:
                self._watch()
                break
            if count < room:
                break  # drained: asking again would only raise
            budget -= count
        if (is_large or session.unfinished_frame is not None) and self._fd >= 0:
            self._note_large_read()

    def _note_large_read(self) -> None:
        self._poller.note_heavy()
        if self._window is None:
            self._window = ReceiveWindow(self._socket, self._poller.light_events)
        self._window.note_read()

    def flush(self) -> None:
        """Send the answers that are ready; what the socket does not take waits for `on_writable`."""
        if self._fd >= 0 and (output := self.session.take_output()):
            self._send(output)

    def _send(self, output: list[Segment]) -> None:
        if self._backlog is not None:
            self._backlog.extend(output)
            self._queued_bytes += memory_of(output)
            self._watch()
            return
        try:
            answer = _joined(output)
            if answer is not None:
                try:
                    sent = self._socket.send(answer)
                except BlockingIOError:
                    sent = 0
                if sent == len(answer):
                    if self.session.is_full:
                        self._resume()
                    return
                output = [memoryview(answer)[sent:]]
            self._transmit(deque(output))
        except OSError as error:
            self.close(f"write failed: {error.strerror}")

    def on_writable(self) -> None:
        if self._backlog is None or self._fd < 0 or self._is_reading_in:
            return
        self._poller.note_heavy()
        try:
            self._transmit(self._backlog)
        except OSError as error:
            self.close(f"write failed: {error.strerror}")
        except Exception:
            log.exception("closing %s: sending failed; please report this", self.session.peer)
            self.close("bug")

    def _transmit(self, queue: deque[Segment]) -> None:
        budget = limits.WRITE_TURN_BYTES
        try:
            while queue and budget > 0:
                head = queue[0]
                sent = self._send_file(head, queue) if isinstance(head, FileSlice) else self._send_bytes(queue)
                budget -= sent
        except BlockingIOError:
            pass
        if queue:
            self._backlog = queue
            self._queued_bytes = memory_of(self._backlog)
        else:
            self._backlog = None
            self._queued_bytes = 0
        self._watch()
        if not queue:
            self._resume()

    def _send_bytes(self, queue: deque[Segment]) -> int:
        run: list[bytes | bytearray | memoryview] = []
        total = 0
        more = 0
        for segment in queue:
            if isinstance(segment, FileSlice):
                more = socket.MSG_MORE
                break
            if len(run) == _IOV_MAX:
                break
            run.append(segment)
            total += len(segment)
        if total <= limits.JOIN_BYTES:
            sent = self._socket.send(b"".join(run), more)
        else:
            sent = self._socket.sendmsg(run, (), more)
        _drop(queue, sent)
        return sent

    def _send_file(self, part: FileSlice, queue: deque[Segment]) -> int:
        ready = leading_cached(part.fd, part.position, part.size)
        if not ready:
            self._read_in(part)
            raise BlockingIOError  # as if the socket were full: sending goes on when the bytes are in memory
        sent = os.sendfile(self._fd, part.fd, part.position, ready)
        if sent == 0:
            raise OSError(5, "a stored range ended early")  # the size is already promised: the answer cannot be mended
        if sent < part.size:
            part.position += sent
            part.size -= sent
            return sent
        queue.popleft()
        return sent

    def _read_in(self, part: FileSlice) -> None:
        """Have a thread wait for the disk; `part` holds its file open until then."""
        self._is_reading_in = True
        loop = asyncio.get_running_loop()
        reading = loop.run_in_executor(None, read_in, part.fd, part.position, part.size)
        reading.add_done_callback(lambda done: self._on_read_in(part, done))

    def _on_read_in(self, part: FileSlice, done: asyncio.Future[None]) -> None:
        self._is_reading_in = False
        if not done.cancelled() and (error := done.exception()) is not None:
            self.close(f"reading {part.size} stored bytes failed: {error}")
        self._watch()  # the poller goes on with it, in a turn of the loop like any other

    def _resume(self) -> None:
        if self.session.is_full:
            self._serve(self.session.resume)
            self._watch()

    def mute(self) -> None:
        """Read and serve nothing until `unmute`."""
        self.session.mute()
        self._watch()

    def unmute(self) -> None:
        """Serve again what arrives, and what was held back."""
        self.session.unmute()
        self.resume()

    def resume(self) -> None:
        """Go on with what was held back, if there is room now."""
        if self._fd >= 0:
            self._resume()
            if self.session.has_output:
                self.flush()

    def stop_reading(self) -> None:
        """Serve no more requests of this connection."""
        self.session.stop_serving()
        self._watch()

    def _watch(self) -> None:
        if self._fd < 0:
            return
        events = 0
        if not self.session.is_full and self._queued_bytes <= limits.QUEUED_RESPONSE_BYTES:
            events |= READABLE
        if self._backlog is not None and not self._is_reading_in:
            events |= WRITABLE
        if events != self._events:
            self._events = events
            self._poller.modify(self._fd, events)

    def close(self, reason: str) -> None:
        """End the connection now; answers that were not sent are lost, open requests are told."""
        if self._fd < 0:
            return
        log.debug("connection %s ended: %s", self.session.peer, reason)
        self._poller.unregister(self._fd)
        self._fd = -1
        self._backlog = None
        self._socket.close()
        self.session.close()
        self._on_closed(self)


def _joined(output: list[Segment]) -> bytes | bytearray | memoryview | None:
    """Small answers as one piece, for one call; None if they are too large, or would have to wait for the disk."""
    if len(output) == 1 and not isinstance(answer := output[0], FileSlice):  # the common case
        return answer
    parts: list[bytes | bytearray | memoryview] = []
    room = limits.JOIN_BYTES
    for segment in output:
        part: bytes | bytearray | memoryview | None
        if isinstance(segment, FileSlice):
            if segment.size > limits.INLINE_RECORDS_BYTES:
                return None
            part = read_cached(segment.fd, segment.position, segment.size)
            if part is None:
                return None
        else:
            part = segment
        room -= len(part)
        if room < 0:
            return None
        parts.append(part)
    return b"".join(parts)


def _drop(queue: deque[Segment], count: int) -> None:
    """Remove the first `count` bytes of the byte segments at the front, and empty segments with them."""
    while queue:
        segment = queue[0]
        if isinstance(segment, FileSlice):
            return
        if len(segment) > count:
            queue[0] = memoryview(segment)[count:]
            return
        queue.popleft()
        count -= len(segment)
