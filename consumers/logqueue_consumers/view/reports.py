"""What the fold tells its parent after each commit: the message, its framing, and the bound of what waits unsent.

A message on the pipe is a 4-byte big-endian length and a MessagePack body. A parent that does not keep up loses single
changes (`is_truncated`), never positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from logqueue.ids import TopicPartition
from logqueue_consumers.view.job import State

MAX_CHANGES: Final = 20_000  # in one report
MAX_REPORT_BYTES: Final = 64 * 1024 * 1024  # 20,000 ids of the longest kind stay far below

_LENGTH_BYTES: Final = 4


class Report(msgspec.Struct, array_like=True):
    """The view after a commit (or after a while without one).

    `positions`: partitions read further, with their next offset. `changes`: jobs with a new outcome, as (shadow
    group, state, ids). `lag`: records in the topics that the view does not hold yet, as far as the fold knows.
    `is_caught_up`: it has been at the end of every topic since it started.
    """

    generation: str
    positions: list[tuple[str, int, int]] = []
    changes: list[tuple[str, int, Sequence[str]]] = []
    is_truncated: bool = False
    has_new_definitions: bool = False
    lag: int = 0
    is_caught_up: bool = False
    unreadable: int = 0  # status records left out since the fold started


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Report)


def encode_report(report: Report) -> bytes:
    """The report as it goes over the pipe."""
    body = _encoder.encode(report)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class ReportReader:
    """Bytes of the pipe, in whatever pieces they come -> reports."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Report]:
        """The reports that are complete now; raises ValueError if the stream is not one of reports."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH_BYTES:
            size = int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
            if size > MAX_REPORT_BYTES:
                raise ValueError(f"a report of {size} bytes; the largest is {MAX_REPORT_BYTES}")
            if len(self._buffer) < _LENGTH_BYTES + size:
                return
            body = bytes(self._buffer[_LENGTH_BYTES : _LENGTH_BYTES + size])
            del self._buffer[: _LENGTH_BYTES + size]
            yield _decoder.decode(body)


class Reporter:
    """Sends reports, joining those that the pipe has no room for into one.

    `send` takes bytes and must not block; `is_full` says whether the pipe has more waiting than it should.
    """

    def __init__(self, send: Callable[[bytes], None], is_full: Callable[[], bool]) -> None:
        self._send = send
        self._is_full = is_full
        self._positions: dict[TopicPartition, int] = {}
        self._changes: list[tuple[str, int, Sequence[str]]] = []
        self._room = MAX_CHANGES
        self._latest: Report | None = None
        self._is_truncated = False
        self._has_new_definitions = False

    def add(
        self,
        report: Report,
        *,
        positions: Iterable[tuple[TopicPartition, int]],
        changes: Mapping[tuple[str, State], Sequence[str]],
    ) -> None:
        """Send a report with these positions and changes now, or keep it for `flush`."""
        self._positions.update(positions)
        for (shadow, state), ids in changes.items():
            self._is_truncated |= len(ids) > self._room
            if kept := ids[: self._room]:
                self._changes.append((shadow, int(state), kept))
                self._room -= len(kept)
        self._has_new_definitions |= report.has_new_definitions
        self._latest = report
        self.flush()

    def flush(self) -> None:
        """Send what is kept, if the pipe has room."""
        if self._latest is None or self._is_full():
            return
        report = self._latest
        report.positions = [(*at, offset) for at, offset in self._positions.items()]
        report.changes = self._changes
        report.is_truncated = self._is_truncated
        report.has_new_definitions = self._has_new_definitions
        self._positions, self._changes, self._latest = {}, [], None
        self._room = MAX_CHANGES
        self._is_truncated = self._has_new_definitions = False
        self._send(encode_report(report))
