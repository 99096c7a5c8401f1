"""Record batches, format v2: the header at fixed offsets, iteration, checksum, patching in place. Knows no records.

    offset  type  field                 note
    0       i64   base offset           set by the broker; outside the CRC
    8       i32   batch length          bytes after this field
    12      i32   leader epoch          set by the broker; outside the CRC
    16      i8    magic                 2
    17      u32   CRC-32C               of everything from 21 to the end
    21      i16   attributes            bits 0-2 codec, 3 log-append time, 4 transactional, 5 control, 6 delete horizon
    23      i32   last offset delta
    27      i64   base timestamp        of the first record, or the delete horizon (bit 6)
    35      i64   max timestamp
    43      i64   producer id           -1: none
    51      i16   producer epoch
    53      i32   base sequence
    57      i32   record count
    61            records               compressed as one block when a codec is set

Source: Kafka documentation, "Record Batch" (KIP-98).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from struct import Struct
from typing import NamedTuple

from logqueue.records.crc import crc32c
from logqueue.records.errors import CorruptMessage

Buffer = bytes | bytearray | memoryview

HEADER = Struct(">qiibIhiqqqhii")
HEADER_SIZE = HEADER.size
LENGTH_PREFIX = 12  # base offset and batch length: what "batch length" does not count
MAGIC_POSITION = 16
CRC_START = 21
MAGIC = 2
MIN_BATCH_LENGTH = HEADER_SIZE - LENGTH_PREFIX

CODEC_MASK = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
DELETE_HORIZON = 0x40

NO_TIMESTAMP = -1
MAX_TIMESTAMP = 2**63 - 1
NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_SEQUENCE = -1
NO_LEADER_EPOCH = -1
MAX_SEQUENCE = 2**31 - 1

_OFFSET_LENGTH = Struct(">qi")
_OFFSET = Struct(">q")
_EPOCH = Struct(">i")
_CRC = Struct(">I")
_APPEND_TIME = Struct(">hiqq")


class BatchHeader(NamedTuple):
    """The 61 fixed bytes of a batch, field by field."""

    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.batch_length + LENGTH_PREFIX

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def codec(self) -> int:
        """Codec number: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."""
        return self.attributes & CODEC_MASK

    @property
    def is_log_append_time(self) -> bool:
        return self.attributes & LOG_APPEND_TIME != 0

    @property
    def is_transactional(self) -> bool:
        return self.attributes & TRANSACTIONAL != 0

    @property
    def is_control(self) -> bool:
        return self.attributes & CONTROL != 0

    @property
    def has_producer_id(self) -> bool:
        return self.producer_id >= 0

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record; wraps after 2^31-1 to 0, and is -1 where there are no sequences."""
        if self.base_sequence == NO_SEQUENCE:
            return NO_SEQUENCE
        return add_sequence(self.base_sequence, self.last_offset_delta)


header_of = partial(tuple.__new__, BatchHeader)
"""A BatchHeader from a tuple of all its fields: half of what `_make` costs, for every batch that is produced."""


def add_sequence(sequence: int, increment: int) -> int:
    """Move a producer sequence on; after 2^31-1 comes 0 (KIP-98)."""
    return (sequence + increment) % (MAX_SEQUENCE + 1)


def parse_header(buffer: Buffer, position: int = 0, *, end: int | None = None) -> BatchHeader:
    """Read the header of the batch at `position`; the batch has to be whole before `end` (default: the buffer's end).

    Checks length and magic, not the checksum. Raises CorruptMessage.
    """
    limit = len(buffer) if end is None else end
    if limit - position < LENGTH_PREFIX:
        raise CorruptMessage(f"Batch at {position} is cut after {limit - position} bytes")
    base_offset, length = _OFFSET_LENGTH.unpack_from(buffer, position)
    if length < MIN_BATCH_LENGTH:
        # The length before the magic: batches of formats v0 and v1 may be shorter than our header.
        magic = buffer[position + MAGIC_POSITION] if limit - position > MAGIC_POSITION else MAGIC
        if magic < MAGIC and length > 0:
            raise CorruptMessage(f"Batch at {position} has the old format v{magic}; only v{MAGIC} is stored")
        raise CorruptMessage(f"Batch at {position} has an impossible length of {length} bytes")
    if length + LENGTH_PREFIX > limit - position:
        raise CorruptMessage(f"Batch at {position} needs {length + LENGTH_PREFIX} bytes, {limit - position} are there")
    header = BatchHeader._make(HEADER.unpack_from(buffer, position))
    if header.magic != MAGIC:
        raise CorruptMessage(f"Batch at {position} (offset {base_offset}) has magic {header.magic}, not {MAGIC}")
    return header


def iterate_batches(
    buffer: Buffer, position: int = 0, *, end: int | None = None, partial_tail: bool = False
) -> Iterator[tuple[int, BatchHeader]]:
    """Walk over batches: pairs of (position, header), checksums unchecked.

    With `partial_tail` a last batch that is not whole ends the walk (as in a fetch response); otherwise, and for any
    other defect, CorruptMessage is raised.
    """
    limit = len(buffer) if end is None else end
    while position < limit:
        if partial_tail and not is_whole(buffer, position, end=limit):
            return
        header = parse_header(buffer, position, end=limit)
        yield position, header
        position += header.batch_length + LENGTH_PREFIX


def is_whole(buffer: Buffer, position: int, *, end: int) -> bool:
    """Whether the batch at `position`, judged by its length field alone, is there to its last byte."""
    if end - position < LENGTH_PREFIX:
        return False
    length: int = _OFFSET_LENGTH.unpack_from(buffer, position)[1]
    return length + LENGTH_PREFIX <= end - position


def compute_crc(buffer: Buffer, position: int, size: int) -> int:
    """CRC-32C of the part of a batch that its checksum covers."""
    return crc32c(memoryview(buffer)[position + CRC_START : position + size])


def check_crc(buffer: Buffer, position: int, header: BatchHeader) -> None:
    """Raise CorruptMessage if the stored checksum of the batch at `position` is not that of its bytes."""
    computed = compute_crc(buffer, position, header.size)
    if computed != header.crc:
        raise CorruptMessage(
            f"Batch at {position} (offset {header.base_offset}) fails its checksum: "
            f"stored {header.crc:#010x}, computed {computed:#010x}"
        )


def patch(buffer: bytearray | memoryview, position: int, base_offset: int, leader_epoch: int) -> None:
    """Set where a batch lies in the log, in place; both fields are outside the checksum."""
    _OFFSET.pack_into(buffer, position, base_offset)
    _EPOCH.pack_into(buffer, position + LENGTH_PREFIX, leader_epoch)


def patch_log_append_time(buffer: bytearray | memoryview, position: int, header: BatchHeader, now_ms: int) -> None:
    """Give a batch the broker's time, in place: type bit, max timestamp and a new checksum."""
    attributes = header.attributes | LOG_APPEND_TIME
    _APPEND_TIME.pack_into(
        buffer, position + CRC_START, attributes, header.last_offset_delta, header.base_timestamp, now_ms
    )
    _CRC.pack_into(buffer, position + MAGIC_POSITION + 1, compute_crc(buffer, position, header.size))
