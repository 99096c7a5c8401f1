"""Whole batches from records and back. Knows every codec by name, no files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from logqueue.records.batch import (
    CONTROL,
    HEADER,
    HEADER_SIZE,
    LENGTH_PREFIX,
    MAGIC,
    MAGIC_POSITION,
    NO_LEADER_EPOCH,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    TRANSACTIONAL,
    BatchHeader,
    Buffer,
    compute_crc,
    parse_header,
)
from logqueue.records.compression import CODECS, compress, decompress
from logqueue.records.record import Record, iterate_records, write_record


def build_batch(
    records: Sequence[Record],
    *,
    base_offset: int = 0,
    leader_epoch: int = NO_LEADER_EPOCH,
    compression: str = "none",
    compression_level: int | None = None,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    transactional: bool = False,
    control: bool = False,
) -> bytearray:
    """Pack records into one batch, ready to be appended or sent.

    The records get the offsets `base_offset`, `base_offset + 1`, ...; their own `offset` is not looked at.
    `compression` is a codec's name as in `compression.type`.
    """
    assert records, "a batch has at least one record"
    base_timestamp = records[0].timestamp_ms
    body = bytearray()
    for index, record in enumerate(records):
        write_record(body, record, timestamp_delta=record.timestamp_ms - base_timestamp, offset_delta=index)
    codec = CODECS[compression]
    packed = compress(codec, body, compression_level) if codec else body
    size = HEADER_SIZE + len(packed)
    batch = bytearray(HEADER_SIZE)
    HEADER.pack_into(
        batch,
        0,
        base_offset,
        size - LENGTH_PREFIX,
        leader_epoch,
        MAGIC,
        0,
        codec | (TRANSACTIONAL if transactional else 0) | (CONTROL if control else 0),
        len(records) - 1,
        base_timestamp,
        max(record.timestamp_ms for record in records),
        producer_id,
        producer_epoch,
        base_sequence,
        len(records),
    )
    batch += packed
    crc_position = MAGIC_POSITION + 1
    batch[crc_position : crc_position + 4] = compute_crc(batch, 0, size).to_bytes(4, "big")
    return batch


def read_records(buffer: Buffer, position: int = 0, header: BatchHeader | None = None) -> Iterator[Record]:
    """Decode the records of the batch at `position` (its checksum unchecked), whatever its codec.

    Raises CorruptMessage, or UnsupportedCompressionType for a codec number that does not exist.
    """
    if header is None:
        header = parse_header(buffer, position)
    return iterate_records(
        unpack_records(buffer, position, header),
        count=header.record_count,
        base_offset=header.base_offset,
        base_timestamp=header.base_timestamp,
        append_time=header.max_timestamp if header.is_log_append_time else None,
    )


def unpack_records(buffer: Buffer, position: int, header: BatchHeader) -> Buffer:
    """The record bytes of a batch, uncompressed; a view of `buffer` where nothing was compressed."""
    packed = memoryview(buffer)[position + HEADER_SIZE : position + header.size]
    return decompress(header.codec, packed) if header.codec else packed
