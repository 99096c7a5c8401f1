"""A batch without the records that compaction removes. Pure: bytes in, bytes out.

What stays the same (KIP-98, KIP-534): base offset, last offset, producer id, epoch, sequence, leader epoch and codec of
a batch, offsets and times of its records. A batch with tombstones, or a marker of a transaction that is gone, gets a
delete horizon the first time it is seen here (attribute bit 6): base timestamp = now + delete.retention.ms, and the
deltas of its records count from there. After that time the tombstones, or the marker, go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from logqueue.records.batch import (
    CODEC_MASK,
    CONTROL,
    DELETE_HORIZON,
    HEADER,
    HEADER_SIZE,
    LENGTH_PREFIX,
    LOG_APPEND_TIME,
    MAGIC,
    MAGIC_POSITION,
    NO_TIMESTAMP,
    TRANSACTIONAL,
    BatchHeader,
    compute_crc,
)
from logqueue.records.builder import read_records
from logqueue.records.compression import compress, decompress
from logqueue.records.control import parse_marker
from logqueue.records.errors import CorruptMessage
from logqueue.records.record import read_varint, write_varint
from logqueue.storage.compaction.job import LastBatch
from logqueue.storage.compaction.offset_map import OffsetMap
from logqueue.storage.compaction.transactions import TransactionsSeen

_MAX_OFFSET_DELTA = 2**31 - 1
_NULL = 1  # zigzag of -1: the length of a key or value that is null


class Outline(NamedTuple):
    """A record inside the bytes of a batch, as far as compaction looks at it."""

    start: int
    end: int
    offset_delta: int
    key: bytes | None
    has_value: bool


def outline(body: bytes, count: int) -> Iterator[Outline]:
    """Walk over the records of uncompressed bytes. Raises CorruptMessage."""
    position, total = 0, len(body)
    make = Outline._make
    try:
        for _ in range(count):
            start = position
            byte = body[position]
            position += 1
            if byte < 0x80:
                length = (byte >> 1) ^ -(byte & 1)
            else:
                length, position = read_varint(body, start)
            end = position + length
            if length < 0 or end > total:
                raise CorruptMessage(f"Record at {start} needs {length} bytes, {total - position} are there")
            position += 1  # attributes
            while body[position] > 0x7F:  # timestamp delta
                position += 1
            position += 1
            byte = body[position]
            if byte < 0x80:
                delta = (byte >> 1) ^ -(byte & 1)
                position += 1
            else:
                delta, position = read_varint(body, position)
                if not 0 <= delta <= _MAX_OFFSET_DELTA:
                    raise CorruptMessage(f"The record at {start} has the offset {delta} in its batch")
            byte = body[position]
            if byte == _NULL:
                key = None
                position += 1
            else:
                if byte < 0x80:
                    size = byte >> 1
                    position += 1
                else:
                    size, position = read_varint(body, position)
                key = body[position : position + size]
                position += size
            if position >= end:
                raise CorruptMessage(f"The key of the record at {start} does not end inside it")
            yield make((start, end, delta, key, body[position] != _NULL))
            position = end
    except IndexError:
        raise CorruptMessage(f"Records end after {total} bytes, in the middle of a record") from None
    if position != total:
        raise CorruptMessage(f"{total - position} bytes are left over after the last of {count} records")


def unpacked(buffer: bytes, position: int, header: BatchHeader) -> bytes:
    """The record bytes of a batch, uncompressed. Raises CorruptMessage."""
    packed = buffer[position + HEADER_SIZE : position + header.size]
    return bytes(decompress(header.codec, packed)) if header.codec else packed


class BatchFilter:
    """Decides batch by batch, in offset order, what of it stays."""

    def __init__(
        self,
        offsets: OffsetMap,
        transactions: TransactionsSeen,
        *,
        now_ms: int,
        delete_retention_ms: int,
        end_offset: int,
        last_batches: Mapping[int, LastBatch],
    ) -> None:
        """`end_offset` is where this compaction ends: the batch that ends there stays, if only as a header, so that
        the log's offsets cannot go back; so does the last batch of every producer in `last_batches`, with which its
        last sequence or epoch would go."""
        self._offsets = offsets
        self._transactions = transactions
        self._now_ms = now_ms
        self._horizon_ms = now_ms + delete_retention_ms
        self._end_offset = end_offset
        self._last_batches = last_batches
        self.records_read = 0
        self.records_kept = 0

    def apply(self, buffer: bytes, position: int, header: BatchHeader) -> bytes | bytearray | None:
        """The batch at `position` as it shall be: a slice of `buffer` if it stays as it is, None if it goes.

        Raises CorruptMessage.
        """
        self.records_read += header.record_count
        horizon = header.base_timestamp if header.attributes & DELETE_HORIZON else None
        is_past_horizon = horizon is not None and horizon <= self._now_ms
        if header.is_control:
            is_free = self._is_marker_free(buffer, position, header)
            if header.record_count and not (is_free and is_past_horizon):
                self.records_kept += header.record_count
                if not is_free or horizon is not None:
                    return buffer[position : position + header.size]
                body = unpacked(buffer, position, header)
                everything = [(record.start, record.end) for record in outline(body, header.record_count)]
                return self._rebuild(body, header, everything, sets_horizon=True)
        elif not self._transactions.is_aborted(header) and header.record_count:
            kept = self._filtered(buffer, position, header, horizon is None, is_past_horizon)
            if kept is not None:
                return kept
        return empty_batch(header) if self._stays_empty(header) else None

    def _is_marker_free(self, buffer: bytes, position: int, header: BatchHeader) -> bool:
        marker = None
        for record in read_records(buffer, position, header):
            marker = parse_marker(record)
            if marker is None:
                return False  # of a kind that ends no transaction: not ours to remove
            break
        return self._transactions.is_marker_free(header, None if marker is None else marker.control_type)

    def _filtered(
        self, buffer: bytes, position: int, header: BatchHeader, has_no_horizon: bool, drops_tombstones: bool
    ) -> bytes | bytearray | None:
        body = unpacked(buffer, position, header)
        newest = self._offsets.get
        base, mapped = header.base_offset, self._offsets.latest_offset
        kept: list[tuple[int, int]] = []
        has_tombstones = False
        for start, end, delta, key, has_value in outline(body, header.record_count):
            if base + delta <= mapped and (
                key is None or base + delta < newest(key) or (drops_tombstones and not has_value)
            ):
                continue
            kept.append((start, end))
            if not has_value:
                has_tombstones = True
        self.records_kept += len(kept)
        if not kept:
            return None
        sets_horizon = has_tombstones and has_no_horizon
        if len(kept) == header.record_count and not sets_horizon:
            return buffer[position : position + header.size]
        return self._rebuild(body, header, kept, sets_horizon=sets_horizon)

    def _stays_empty(self, header: BatchHeader) -> bool:
        if header.next_offset == self._end_offset:
            return True
        last = self._last_batches.get(header.producer_id) if header.has_producer_id else None
        if last is None:
            return False
        if last.last_data_offset is not None:
            return header.last_offset == last.last_data_offset
        return header.is_control and header.producer_epoch == last.epoch

    def _rebuild(
        self, body: bytes, header: BatchHeader, kept: list[tuple[int, int]], *, sets_horizon: bool
    ) -> bytearray:
        base_timestamp, attributes = header.base_timestamp, header.attributes
        max_timestamp = header.max_timestamp
        if len(kept) < header.record_count and not attributes & LOG_APPEND_TIME:
            max_timestamp = max(_as_long(base_timestamp + _timestamp_delta(body, start)) for start, _ in kept)
        if sets_horizon:
            shift = base_timestamp - self._horizon_ms
            base_timestamp, attributes = self._horizon_ms, attributes | DELETE_HORIZON
            plain = bytearray()
            for start, end in kept:
                _write_shifted(plain, body, start, end, shift)
        else:
            plain = bytearray().join([body[start:end] for start, end in kept])
        packed = compress(header.codec, plain) if header.codec else plain
        return _with_header(
            header,
            attributes=attributes,
            base_timestamp=base_timestamp,
            max_timestamp=max_timestamp,
            count=len(kept),
            packed=packed,
        )


def empty_batch(header: BatchHeader) -> bytearray:
    """A batch's header alone: it keeps offsets, sequence and producer when no record is left."""
    return _with_header(
        header,
        attributes=header.attributes & (LOG_APPEND_TIME | TRANSACTIONAL | CONTROL) & ~CODEC_MASK,
        base_timestamp=NO_TIMESTAMP,
        max_timestamp=header.max_timestamp,
        count=0,
        packed=b"",
    )


def _with_header(
    header: BatchHeader,
    *,
    attributes: int,
    base_timestamp: int,
    max_timestamp: int,
    count: int,
    packed: bytes | bytearray,
) -> bytearray:
    size = HEADER_SIZE + len(packed)
    batch = bytearray(
        HEADER.pack(
            header.base_offset,
            size - LENGTH_PREFIX,
            header.leader_epoch,
            MAGIC,
            0,
            attributes,
            header.last_offset_delta,
            base_timestamp,
            max_timestamp,
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            count,
        )
    )
    batch += packed
    crc_position = MAGIC_POSITION + 1
    batch[crc_position : crc_position + 4] = compute_crc(batch, 0, size).to_bytes(4, "big")
    return batch


def _as_long(value: int) -> int:
    """A sum of times in 64 bits, as Java has it: the deltas of clients may take it out of them."""
    return (value + 2**63) % 2**64 - 2**63


def _timestamp_delta(body: bytes, start: int) -> int:
    _, position = read_varint(body, start)
    return read_varint(body, position + 1)[0]


def _write_shifted(out: bytearray, body: bytes, start: int, end: int, shift: int) -> None:
    """Append a record with its timestamp delta moved, so that its time stays when the base timestamp changes."""
    _, position = read_varint(body, start)
    delta, rest = read_varint(body, position + 1)
    shifted = bytearray(body[position : position + 1])
    write_varint(shifted, _as_long(delta + shift))
    write_varint(out, len(shifted) + end - rest)
    out += shifted
    out += memoryview(body)[rest:end]
