"""One connection as bytes: requests in, answers out in the order of the requests. Knows no socket, file or loop.

A shell reads into `receive_buffer()`, reports with `received(count)`, and sends what `take_output()` hands back.
Requests are served in order of arrival, and each opens a `Slot`; an answer that is ready early waits for its turn.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from logqueue.broker.network import limits
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.frames import RequestHeader
from logqueue.protocol.wire import FileSlice, Segment

if TYPE_CHECKING:
    from logqueue.broker.network.door import Door

if TYPE_CHECKING:
    from logqueue.broker.metrics.meters import Late

_SIZE = struct.Struct(">i")


ANONYMOUS = "User:ANONYMOUS"


class FrameTooLarge(KafkaError):
    """A frame announces a size that is negative or above `socket.request.max.bytes`."""

    code = ErrorCode.INVALID_REQUEST


def memory_of(segments: Iterable[Segment]) -> int:
    """Bytes of segments that are in memory, not in files."""
    return sum(len(segment) for segment in segments if not isinstance(segment, FileSlice))


class BufferPool:
    """Spare frame buffers, all of one size, so that bulk producers do not fault in fresh memory for every request.

    It also counts what the frames that are still arriving have announced (`queued.max.request.bytes`): as in Kafka, a
    frame is begun while there is any room at all, so that the largest one can always be read.
    """

    __slots__ = ("_limit", "_on_room", "_reserved", "_spare", "starved")

    def __init__(self, *, limit: int | None = None, on_room: Callable[[], None] | None = None) -> None:
        """`on_room` is called when there is room again and somebody in `starved` waits for it."""
        self._spare: list[bytearray] = []
        self._limit = limit
        self._on_room = on_room
        self._reserved = 0
        self.starved: list[Session] = []

    def reserve(self, size: int) -> bool:
        """Announce a frame; False if it has to wait."""
        if self._limit is not None and self._reserved >= self._limit:
            return False
        self._reserved += size
        return True

    def release(self, size: int) -> None:
        """A frame that was announced has been read, or never will be."""
        self._reserved -= size
        if self.starved and self._on_room is not None:
            self._on_room()

    def take(self, size: int) -> bytearray:
        if size <= limits.FRAME_BUFFER_BYTES:
            return self._spare.pop() if self._spare else bytearray(limits.FRAME_BUFFER_BYTES)
        return bytearray(size)

    def give_back(self, buffer: bytearray) -> None:
        if len(buffer) == limits.FRAME_BUFFER_BYTES and len(self._spare) < limits.SPARE_FRAME_BUFFERS:
            self._spare.append(buffer)


class Place:
    """The place of one answer in its connection's order."""

    __slots__ = ("abandon", "segments", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.segments: list[Segment] | None = None
        self.abandon: Callable[[], None] | None = None  # called if the connection ends before the answer

    def fill(self, segments: list[Segment]) -> None:
        """Put the encoded answer (size prefix included; empty: no answer) in its place. Late ones are dropped."""
        assert self.segments is None, "a request is answered once"
        self.segments = segments
        self.abandon = None
        self.session.on_filled(self)


class Slot(Place):
    """The place of an answer with the header of its request: what a handler is given."""

    __slots__ = ("amend", "header", "late")
    late: Late  # set where requests are measured, when the answer has to wait

    def __init__(self, session: Session, header: RequestHeader) -> None:
        super().__init__(session)
        self.header = header
        self.amend: Callable[[Any], Any] | None = None  # completes the response: what its sender may see, throttling

    @property
    def api_version(self) -> int:
        return self.header.api_version


class Session:
    """The bytes of one connection."""

    __slots__ = (
        "_filled",
        "_frame_view",
        "_max_queued_requests",
        "_max_request_bytes",
        "_need",
        "_on_output",
        "_output",
        "_output_bytes",
        "_places",
        "_pool",
        "_scratch",
        "_serve",
        "_tail",
        "door",
        "is_authenticated",
        "is_closed",
        "is_full",
        "is_muted",
        "local_host",
        "peer",
        "principal",
        "repeat_head",
        "unfinished_frame",
    )

    def __init__(
        self,
        *,
        peer: str,
        local_host: str,
        serve: Callable[[Session, memoryview], None],
        on_output: Callable[[], None],
        scratch: memoryview,
        pool: BufferPool,
        max_request_bytes: int,
        max_queued_requests: int,
        door: Door | None = None,
    ) -> None:
        """`scratch` is shared by all sessions of a loop: `serve` must not keep views of its frame.

        `on_output` is called when the first answer becomes ready to leave after `take_output`. `door` is the listener
        that the connection came in by.
        """
        self.peer = peer
        self.local_host = local_host
        self._serve = serve
        self._on_output = on_output
        self._scratch = scratch
        self._pool = pool
        self._max_request_bytes = max_request_bytes
        self._max_queued_requests = max_queued_requests
        self._tail = b""  # a cut size prefix, or frames that wait because too many are unanswered
        self.unfinished_frame: bytearray | None = None  # a frame of which only a part is here
        self._frame_view = scratch
        self._filled = 0
        self._need = 0
        self._places: deque[Place] = deque()
        self._output: list[Segment] = []
        self._output_bytes = 0  # of them in memory
        self.is_full = False
        self.is_muted = False  # throttled: nothing is served until `unmute`
        self.is_closed = False
        self.door = door
        self.repeat_head: struct.Struct | None = None  # what the next request repeats of the last; `broker.repeats`
        self.principal = ANONYMOUS
        self.is_authenticated = True  # TLS and SASL shells set it to False until they know better

    @property
    def peer_host(self) -> str:
        """The client's address without its port."""
        return self.peer.rpartition(":")[0]

    # ---- bytes in

    def receive_buffer(self) -> memoryview:
        """Where the next bytes of the connection belong."""
        if self.unfinished_frame is None:
            return self._scratch
        return self._frame_view[self._filled : self._need]

    def received(self, count: int) -> None:
        """Take `count` bytes that were put at the front of `receive_buffer()`.

        Raises FrameTooLarge, and whatever the server makes of a frame it cannot read: the connection has to end then.
        """
        if self.unfinished_frame is not None:
            self._continue_frame(count)
        elif self._tail:
            self._take_frames(memoryview(bytearray(self._tail + self._scratch[:count])))
        else:
            self._take_frames(self._scratch[:count])

    def resume(self) -> None:
        """Serve what was held back while too much was unanswered or unsent; see `is_full`."""
        if self.is_full and self._has_room and not self.is_muted and not self.is_closed:
            self.is_full = False
            if self._tail:
                self._take_frames(memoryview(bytearray(self._tail)))

    def mute(self) -> None:
        """Serve nothing until `unmute`; answers still leave (KIP-219)."""
        self.is_muted = self.is_full = True

    def unmute(self) -> None:
        """Serve again, with `resume`."""
        self.is_muted = False

    def serve_with(self, serve: Callable[[Session, memoryview], None], *, max_request_bytes: int) -> None:
        """Hand the following frames to another server: the client has authenticated."""
        self._serve = serve
        self._max_request_bytes = max_request_bytes

    @property
    def unfinished_bytes(self) -> int | None:
        """How much of a request has arrived whose rest is missing; None if none is."""
        if self.unfinished_frame is not None:
            return self._filled
        return len(self._tail) if self._tail and not self.is_full else None

    def stop_serving(self) -> None:
        """Serve nothing more; the answers of what was served can still leave."""
        self.is_full = True
        self._max_queued_requests = -2  # never half empty again

    def _take_frames(self, data: memoryview) -> None:
        self._tail = b""
        position, end = 0, len(data)
        while end - position >= 4:
            (size,) = _SIZE.unpack_from(data, position)
            if not 0 <= size <= self._max_request_bytes:
                raise FrameTooLarge(f"a request of {size} bytes; socket.request.max.bytes is {self._max_request_bytes}")
            stop = position + 4 + size
            if self.is_full or stop > end:
                break
            self._serve(self, data[position + 4 : stop])
            position = stop
            if len(self._places) >= self._max_queued_requests or self._output_bytes > limits.QUEUED_RESPONSE_BYTES:
                self.is_full = True
        if position < end:
            self._keep(data[position:])

    def _keep(self, rest: memoryview) -> None:
        if self.is_full or len(rest) < 4:
            self._tail = bytes(rest)
            return
        need = 4 + _SIZE.unpack_from(rest)[0]
        if not self._pool.reserve(need):
            self._tail = bytes(rest)
            self.is_full = True
            self._pool.starved.append(self)
            return
        self._need = need
        self._open_frame(rest)

    def _open_frame(self, start: memoryview) -> None:
        self.unfinished_frame = self._pool.take(min(self._need, limits.FRAME_BUFFER_BYTES))
        self._frame_view = memoryview(self.unfinished_frame)
        self._frame_view[: len(start)] = start
        self._filled = len(start)

    def _continue_frame(self, count: int) -> None:
        self._filled += count
        if self._filled < self._need:
            if self._filled == len(self._frame_view):
                self._grow_frame()
            return
        buffer, frame = self.unfinished_frame, self._frame_view[4 : self._need]
        assert buffer is not None
        self._drop_frame()
        self._serve(self, frame)
        if len(self._places) >= self._max_queued_requests:
            self.is_full = True
        self._pool.give_back(buffer)

    def _grow_frame(self) -> None:
        grown = bytearray(min(self._need, 4 * self._filled))
        grown[: self._filled] = self._frame_view[: self._filled]
        if self.unfinished_frame is not None:
            self._pool.give_back(self.unfinished_frame)
        self.unfinished_frame, self._frame_view = grown, memoryview(grown)

    def _drop_frame(self) -> None:
        if self._need:
            self._pool.release(self._need)
        self.unfinished_frame = None
        self._frame_view = self._scratch
        self._filled = self._need = 0

    # ---- answers out

    @property
    def _has_room(self) -> bool:
        return len(self._places) <= self._max_queued_requests // 2 and not self._output

    @property
    def queued_requests(self) -> int:
        """Requests that were served but whose answers have not left the queue."""
        return len(self._places)

    def open_slot(self, header: RequestHeader) -> Slot:
        """Take the next place in the order of answers."""
        slot = Slot(self, header)
        self._places.append(slot)
        return slot

    def enter(self, place: Place) -> None:
        """The same for a place that was made for this session."""
        self._places.append(place)

    def answer(self, answer: bytes) -> bool:
        """Have an answer leave at once; False if one before it has to be waited for (a slot keeps the order)."""
        if self._places or self.is_closed:
            return False
        self._output.append(answer)
        self._output_bytes += len(answer)
        if len(self._output) == 1:
            self._on_output()
        return True

    def on_filled(self, place: Place) -> None:
        """Move every answer whose turn has come to the output."""
        places = self._places
        if self.is_closed or not places or places[0] is not place:
            return
        was_empty = not self._output
        while places and (segments := places[0].segments) is not None:
            places.popleft()
            self._output += segments
            self._output_bytes += len(segments[0]) if len(segments) == 1 else memory_of(segments)
        if was_empty and self._output:
            self._on_output()

    @property
    def has_output(self) -> bool:
        """Whether there is something to send."""
        return bool(self._output)

    def take_output(self) -> list[Segment]:
        """The segments to send now, in order; stored ranges as FileSlice."""
        output, self._output, self._output_bytes = self._output, [], 0
        return output

    def close(self) -> None:
        """Forget everything: requests still open are told that nobody waits for them. No more are served."""
        if self.is_closed:
            return
        self.is_closed = self.is_full = True
        for place in self._places:
            if place.abandon is not None:
                place.abandon()
        self._places.clear()
        self._output.clear()
        self._tail = b""
        if self.unfinished_frame is not None:
            self._pool.give_back(self.unfinished_frame)
        self._drop_frame()
