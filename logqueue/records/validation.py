"""What a produced batch must be before it may be stored. Costs per batch; per record only on topics that need it.

The rules and their codes are those of Kafka (ProduceRequest, UnifiedLog and LogValidator), with one difference: the
records of a topic that is not compacted are not decoded, so what lies inside a well-formed batch is up to its client.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn, Self

from logqueue.config import LONG_MAX, LogConfig
from logqueue.records.batch import (
    CODEC_MASK,
    CONTROL,
    CRC_START,
    HEADER,
    HEADER_SIZE,
    LENGTH_PREFIX,
    LOG_APPEND_TIME,
    MAGIC,
    MAGIC_POSITION,
    MAX_TIMESTAMP,
    NO_TIMESTAMP,
    TRANSACTIONAL,
    BatchHeader,
    header_of,
    patch_log_append_time,
)
from logqueue.records.builder import build_batch, read_records, unpack_records
from logqueue.records.compression import CODECS, Codec
from logqueue.records.crc import crc32c
from logqueue.records.errors import (
    CorruptMessage,
    InvalidRecord,
    InvalidTimestamp,
    MessageTooLarge,
    NotOneBatch,
    RecordError,
    RecordListTooLarge,
    UnsupportedCompressionType,
)
from logqueue.records.record import keyless_indexes

MAX_REPORTED_ERRORS = 1_000
SMALLEST_LENGTH = 14  # of a message of Kafka 0.7: what says less of itself is not even that
"""Most records named in one refusal."""

_ERRORS_IN_TEXT = 3


class BatchRules(NamedTuple):
    """The part of a topic's configuration that decides what may be stored, worked out once."""

    max_message_bytes: int
    segment_bytes: int
    keys_required: bool
    log_append_time: bool
    timestamp_before_max_ms: int
    timestamp_after_max_ms: int
    codec: int | None  # None: keep what was sent
    level: int | None = None  # of compression, where the broker does it

    @classmethod
    def of(cls, config: LogConfig) -> Self:
        return cls(
            max_message_bytes=config.max_message_bytes,
            segment_bytes=config.segment_bytes,
            keys_required="compact" in config.cleanup_policy,
            log_append_time=config.message_timestamp_type == "LogAppendTime",
            timestamp_before_max_ms=config.message_timestamp_before_max_ms,
            timestamp_after_max_ms=config.message_timestamp_after_max_ms,
            codec=None if config.compression_type == "producer" else CODECS[config.compression_type],
            level=_level(config),
        )


def _level(config: LogConfig) -> int | None:
    match config.compression_type:
        case "gzip":
            return config.compression_gzip_level
        case "lz4":
            return config.compression_lz4_level
        case "zstd":
            return config.compression_zstd_level
        case _:
            return None


def validate_produced(batch: memoryview, rules: BatchRules, *, now_ms: int) -> BatchHeader:
    """Check the one batch of a produce request for one partition and answer its header; changes nothing.

    Raises CorruptMessage, InvalidRecord, InvalidTimestamp, MessageTooLarge, RecordListTooLarge or
    UnsupportedCompressionType.
    """
    size = len(batch)
    if size < HEADER_SIZE:
        _refuse_layout(batch)
    header = header_of(HEADER.unpack_from(batch))
    (
        base_offset,
        length,
        _,
        magic,
        crc,
        attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        _,
        base_sequence,
        count,
    ) = header
    if magic != MAGIC or length + LENGTH_PREFIX != size:
        _refuse_layout(batch)
    if base_offset != 0:
        raise InvalidRecord(f"The base offset of a produced batch has to be 0, but it is {base_offset}")
    if size > rules.max_message_bytes:
        raise MessageTooLarge(f"The batch has {size} bytes; max.message.bytes is {rules.max_message_bytes}")
    if crc32c(batch[CRC_START:]) != crc:
        raise CorruptMessage(f"The batch of {size} bytes fails its checksum {crc:#010x}")
    if size > rules.segment_bytes:
        raise RecordListTooLarge(f"The batch has {size} bytes; segment.bytes is {rules.segment_bytes}")
    if count <= 0 or last_offset_delta + 1 != count:
        raise InvalidRecord(f"The batch has {count} records, but the offsets 0 to {last_offset_delta}")
    if attributes & CONTROL or attributes & CODEC_MASK > Codec.ZSTD:
        _refuse_attributes(attributes)
    if producer_id >= 0 and base_sequence < 0:
        raise InvalidRecord(f"Invalid sequence {base_sequence} of producer id {producer_id}")
    if rules.keys_required:
        _check_keys(batch, header)
    if not rules.log_append_time and (
        attributes & LOG_APPEND_TIME
        or max_timestamp > now_ms + rules.timestamp_after_max_ms
        or rules.timestamp_before_max_ms != LONG_MAX
        or base_timestamp > max_timestamp
    ):
        _check_timestamps(batch, header, rules, now_ms)
    return header


def check_layout(batch: memoryview) -> None:
    """Raise what `validate_produced` raises before it looks at the rules of the topic."""
    if len(batch) < HEADER_SIZE:
        _refuse_layout(batch)
    header = BatchHeader._make(HEADER.unpack_from(batch))
    if header.magic != MAGIC or header.size != len(batch):
        _refuse_layout(batch)


def _refuse_layout(batch: memoryview) -> NoReturn:
    """Kafka reads batches until one is incomplete: what is cut is no batch, and not a corrupt one."""
    size = len(batch)
    if not size:
        raise NotOneBatch("A produce request has to have at least one record batch per partition")
    if size < LENGTH_PREFIX:
        raise NotOneBatch(f"The batch is cut after {size} bytes; its header alone has {HEADER_SIZE}")
    told = int.from_bytes(batch[LENGTH_PREFIX - 4 : LENGTH_PREFIX], "big", signed=True) + LENGTH_PREFIX
    if told < LENGTH_PREFIX + SMALLEST_LENGTH:
        raise CorruptMessage(f"The batch says it has {told} bytes, but {size} came")
    if size <= MAGIC_POSITION:
        raise NotOneBatch(f"The batch is cut after {size} bytes; its header alone has {HEADER_SIZE}")
    magic = batch[MAGIC_POSITION]
    if magic > MAGIC:
        raise CorruptMessage(f"Record batches with magic {magic} do not exist")
    if size < told:
        raise NotOneBatch(f"The batch says it has {told} bytes, but {size} came")
    if magic < MAGIC:
        raise NotOneBatch(f"Only record batches with magic {MAGIC} are stored, this one has {magic}")
    if told < size:
        raise NotOneBatch("A produce request has to have exactly one record batch per partition")
    raise CorruptMessage(f"The batch has {size} bytes; its header alone has {HEADER_SIZE}")


def _refuse_attributes(attributes: int) -> NoReturn:
    if attributes & CONTROL:
        raise InvalidRecord("Clients are not allowed to write control records")
    raise UnsupportedCompressionType(f"Compression codec {attributes & CODEC_MASK} does not exist")


def _check_keys(batch: memoryview, header: BatchHeader) -> None:
    keyless = keyless_indexes(unpack_records(batch, 0, header), header.record_count)
    if keyless:
        text = "Compacted topic cannot accept message without key"
        _refuse_records(InvalidRecord, [RecordError(index, text) for index in keyless[:MAX_REPORTED_ERRORS]])


def _check_timestamps(batch: memoryview, header: BatchHeader, rules: BatchRules, now_ms: int) -> None:
    oldest, newest = now_ms - rules.timestamp_before_max_ms, now_ms + rules.timestamp_after_max_ms
    errors = []
    for index, record in enumerate(read_records(batch, 0, header)):
        timestamp = record.timestamp_ms
        if header.is_log_append_time:
            errors.append(RecordError(index, "Producers may not set the timestamp type to LogAppendTime"))
        elif timestamp != NO_TIMESTAMP and not oldest <= timestamp <= newest:
            errors.append(RecordError(index, f"Timestamp {timestamp} is outside [{oldest}, {newest}]"))
        if len(errors) == MAX_REPORTED_ERRORS:
            break
    if errors:
        _refuse_records(InvalidTimestamp, errors)


def _refuse_records(error: type[InvalidRecord], record_errors: list[RecordError]) -> NoReturn:
    shown = "; ".join(f"record {e.batch_index}: {e.message}" for e in record_errors[:_ERRORS_IN_TEXT])
    raise error(f"{len(record_errors)} records were refused: {shown}", record_errors=tuple(record_errors))


def recompress(batch: memoryview, header: BatchHeader, codec: int, *, level: int | None = None) -> bytearray:
    """The same records under another codec, for topics whose `compression.type` is not what was sent.

    Raises CorruptMessage, or InvalidTimestamp for a record whose time does not fit 64 bits.
    """
    records = list(read_records(batch, 0, header))
    for index, record in enumerate(records):
        if not -MAX_TIMESTAMP <= record.timestamp_ms <= MAX_TIMESTAMP:
            text = f"Timestamp {record.timestamp_ms} does not fit 64 bits"
            _refuse_records(InvalidTimestamp, [RecordError(index, text)])
    return build_batch(
        records,
        compression=Codec(codec).name.lower(),
        compression_level=level,
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
        transactional=bool(header.attributes & TRANSACTIONAL),
        control=header.is_control,
    )


def stamp(batch: bytearray | memoryview, header: BatchHeader, now_ms: int) -> BatchHeader:
    """Put the broker's time on a batch of a LogAppendTime topic and answer the header that results."""
    patch_log_append_time(batch, 0, header, now_ms)
    return BatchHeader._make(HEADER.unpack_from(batch))
