"""Producers and aborted transactions of a log that is being opened: from snapshots, indexes, and a replay of the rest.

A snapshot has the state at the offset in its name; the batches behind it are replayed. A transaction index has neither
checksum nor length, so each of its entries is held against the log: the marker and the first batch that it names.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from logqueue.records.batch import BatchHeader
from logqueue.storage.errors import StorageError
from logqueue.storage.file_system import FileSystem
from logqueue.storage.markers import note_marker
from logqueue.storage.names import SNAPSHOT, parse_segment_file, segment_file
from logqueue.storage.producer_snapshot import parse_snapshot
from logqueue.storage.producer_state import ProducerState
from logqueue.storage.scan import Scan
from logqueue.storage.segment import Segment
from logqueue.storage.txn_index import AbortEntry, entries_below, is_sane, parse_entries

log = logging.getLogger("logqueue.storage")

_NO_END = 2**63 - 1

LOOK_AHEAD_BATCHES = 64
"""How many batches of an aborted transaction are looked at for a marker that ended it earlier: no start reads a log."""


class ProducerRecovery:
    """One pass over a log's folder; `sizes` are its files, and are kept true."""

    def __init__(self, fs: FileSystem, folder: Path, segments: list[Segment], sizes: dict[str, int]) -> None:
        self._fs = fs
        self._folder = folder
        self._segments = segments
        self._sizes = sizes
        self._state = ProducerState()
        self._claimed: list[
            AbortEntry
        ] = []  # by the index of the segment that was loaded last, of what comes by `take`

    def load(self, last: int, *, up_to: int) -> ProducerState:
        """The producers as of offset `up_to`, which lies in, or at the end of, the segment numbered `last`.

        The transaction indexes of the segments up to that one are taken over, as far as they tell of offsets below
        `up_to`. Batches above come in by `take`, then comes `finish`. Raises OSError.
        """
        self._state = self._state_at(up_to)
        damaged = [s for number, s in enumerate(self._segments) if not self._resume_index(number, last, up_to)]
        if damaged:
            self._rebuild_indexes(damaged, up_to=up_to)
        for segment in self._segments[:last]:
            segment.txn_index.seal(segment.txn_index.size)
        return self._state

    def take(self, segment: Segment, position: int, header: BatchHeader) -> None:
        """Take in a batch that lies above what was loaded."""
        entry = _replay(self._state, segment, position, header)
        if entry is not None:
            segment.txn_index.append(entry)

    def finish(self, last: int, *, end_offset: int) -> None:
        """Everything up to `end_offset` was taken in: see whether it is what the index of segment `last` claimed.

        An index is written when its log is durable, so an entry without its marker means damage. Raises OSError.
        """
        if self._claimed:
            segment = self._segments[last]
            if not set(self._claimed) <= set(segment.txn_index.entries()):
                self._rebuild_indexes([segment], up_to=end_offset)

    # Producers

    def _state_at(self, offset: int) -> ProducerState:
        """The newest whole snapshot at or below an offset, and a replay of the batches in between."""
        state, start = self._snapshot_at(offset)
        for segment, position, header in self._batches(start, offset):
            _replay(state, segment, position, header)
        return state

    def _snapshot_at(self, offset: int) -> tuple[ProducerState, int]:
        names = [parsed for name in self._sizes if (parsed := parse_segment_file(name)) is not None]
        for found in sorted((o for o, suffix in names if suffix == SNAPSHOT and o <= offset), reverse=True):
            name = segment_file(found, SNAPSHOT)
            state = parse_snapshot(self._fs.read_file(self._folder / name) or b"")
            if state is not None:
                return state, found
            log.warning("%s is damaged; an older one and a longer replay take its place", self._folder / name)
            self._fs.unlink(self._folder / name)
            del self._sizes[name]
        return ProducerState(), 0

    def _batches(self, start: int, end: int) -> Iterator[tuple[Segment, int, BatchHeader]]:
        """The batches that end at or behind `start` and begin below `end`."""
        for number, segment in enumerate(self._segments):
            if start >= end or segment.base_offset >= end:
                return
            if number + 1 < len(self._segments) and self._segments[number + 1].base_offset <= start:
                continue
            for position, header in self._scan(segment, from_offset=start):
                if header.base_offset >= end:
                    return
                if header.last_offset >= start:
                    yield segment, position, header

    def _scan(self, segment: Segment, *, from_offset: int) -> Scan:
        """From the last index entry below an offset on, if the log has the batch that the entry tells of."""
        offset, position = segment.offset_index.floor(from_offset)
        size = self._sizes[segment.path.name]
        if position:
            header = next((header for _, header in self._scan_at(segment, position, size)), None)
            if header is None or header.last_offset != offset:
                position = 0
        return self._scan_at(segment, position, size)

    def _scan_at(self, segment: Segment, position: int, size: int) -> Scan:
        return Scan(self._fs, segment.open(), position=position, size=size, next_offset=segment.base_offset)

    # Aborted transactions

    def _resume_index(self, number: int, last: int, up_to: int) -> bool:
        """Take over the index of a segment, if it has one. False if it is damaged."""
        segment = self._segments[number]
        index = segment.txn_index
        if index.path.name not in self._sizes:
            return True
        data = self._fs.read_file(index.path) or b""
        if number > last or not data:
            self._drop_index(segment)
            return True
        end = self._segments[number + 1].base_offset if number < last else _NO_END
        if not is_sane(data, base_offset=segment.base_offset, end_offset=end):
            return False
        kept = data
        if number == last:
            kept = entries_below(data, up_to)
            self._claimed = parse_entries(data[len(kept) :])
        if not all(self._is_true(segment, entry) for entry in parse_entries(kept)):
            return False
        if kept == data:
            index.resume(data)
        else:
            index.restart(kept)
        return True

    def _is_true(self, segment: Segment, entry: AbortEntry) -> bool:
        """Whether the log has the marker of an entry, and nothing but the transaction where that is said to begin."""
        marker = self._batch_at(segment, entry.last_offset)
        if marker is None or not marker.is_control or marker.producer_id != entry.producer_id:
            return False
        holder = next((s for s in reversed(self._segments) if s.base_offset <= entry.first_offset), None)
        return holder is None or self._begins_at(holder, entry)

    def _begins_at(self, segment: Segment, entry: AbortEntry) -> bool:
        """Whether nothing near the place where a transaction is said to begin contradicts it."""
        is_open = False  # a transaction of this producer, before that place
        looked = 0
        for _, header in self._scan(segment, from_offset=entry.first_offset):
            if header.base_offset >= entry.last_offset or looked > LOOK_AHEAD_BATCHES:
                break
            is_its = header.is_transactional and header.producer_id == entry.producer_id
            if header.last_offset < entry.first_offset:
                is_open = not header.is_control if is_its else is_open
                continue
            if header.base_offset > entry.first_offset and not looked:
                return True  # compaction or retention has taken it
            if not looked and (is_open or not is_its or header.base_offset != entry.first_offset):
                return False
            if is_its and header.is_control:
                return False
            looked += 1
        return True

    def _batch_at(self, segment: Segment, offset: int) -> BatchHeader | None:
        """The first batch of a segment that ends at or behind an offset."""
        try:
            position = segment.find(offset)
            return None if position is None else segment.header_at(position)
        except StorageError:
            return None

    def _drop_index(self, segment: Segment) -> None:
        path = segment.txn_index.path
        if self._sizes.pop(path.name, None) is not None:
            self._fs.unlink(path)

    def _rebuild_indexes(self, damaged: list[Segment], *, up_to: int) -> None:
        """Find the transactions that were aborted in some segments by a replay of the log."""
        for segment in damaged:
            log.error("%s is damaged; it is made anew from the log", segment.txn_index.path)
            segment.txn_index.resume(b"")  # the file stays until there is another: without one nothing was aborted
        state, start = self._snapshot_at(damaged[0].base_offset)
        last = self._segments.index(damaged[-1])
        end = self._segments[last + 1].base_offset if last + 1 < len(self._segments) else up_to
        for segment, position, header in self._batches(start, min(end, up_to)):
            entry = _replay(state, segment, position, header)
            if entry is not None and segment in damaged:
                segment.txn_index.append(entry)
        for segment in damaged:
            index = segment.txn_index
            if index.size:
                index.replace_file()
                self._sizes[index.path.name] = index.size
            else:
                self._drop_index(segment)


def _replay(state: ProducerState, segment: Segment, position: int, header: BatchHeader) -> AbortEntry | None:
    """Take a batch into the producers' state; answers the index entry if it aborted a transaction."""
    if not header.has_producer_id:
        return None
    if not header.is_control:
        state.update(header)
        return None
    return note_marker(state, header, segment.read_at(header.size, position))
