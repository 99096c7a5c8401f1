"""What a produced batch may not be, with the error that Kafka answers."""

from __future__ import annotations

import struct

import pytest

from logqueue.config import LogConfig
from logqueue.errors import ErrorCode, KafkaError
from logqueue.records import Record, build_batch, parse_header, read_records
from logqueue.records.batch import compute_crc
from logqueue.records.errors import InvalidRecord, NotOneBatch
from logqueue.records.validation import BatchRules, recompress, stamp, validate_produced

NOW = 1_700_000_000_000


def check(batch: bytes | bytearray, **config: object) -> None:
    rules = BatchRules.of(LogConfig(**config))  # type: ignore[arg-type]
    validate_produced(memoryview(batch), rules, now_ms=NOW)


def refused(batch: bytes | bytearray, **config: object) -> KafkaError:
    with pytest.raises(KafkaError) as caught:
        check(batch, **config)
    return caught.value


def batch_of(*values: bytes, **options: object) -> bytearray:
    return build_batch([Record(timestamp_ms=NOW, value=value) for value in values], **options)  # type: ignore[arg-type]


def with_field(batch: bytearray, position: int, layout: str, value: int) -> bytearray:
    """Change a header field and mend the checksum, as a broken client would send it."""
    struct.pack_into(layout, batch, position, value)
    struct.pack_into(">I", batch, 17, compute_crc(batch, 0, len(batch)))
    return batch


def test_an_ordinary_batch_passes_and_is_not_changed() -> None:
    batch = batch_of(b"a", b"b")
    before = bytes(batch)
    header = validate_produced(memoryview(batch), BatchRules.of(LogConfig()), now_ms=NOW)
    assert header == parse_header(batch)
    assert batch == before


def test_no_batch_and_two_batches_are_invalid() -> None:
    assert refused(b"").code is ErrorCode.INVALID_RECORD
    assert refused(batch_of(b"a") + batch_of(b"b")).code is ErrorCode.INVALID_RECORD


def test_a_cut_batch_is_no_batch_at_every_length() -> None:
    batch = batch_of(b"a" * 20)
    for size in range(1, len(batch)):
        assert isinstance(refused(batch[:size]), NotOneBatch)


def test_a_batch_that_says_less_than_its_header_is_corrupt() -> None:
    for told in (-1, 0, 13):
        assert refused(with_field(batch_of(b"a"), 8, ">i", told)).code is ErrorCode.CORRUPT_MESSAGE
    assert refused(with_field(batch_of(b"a"), 8, ">i", 40)[:52]).code is ErrorCode.CORRUPT_MESSAGE


def test_a_flipped_bit_is_corrupt() -> None:
    batch = batch_of(b"a" * 20)
    batch[-3] ^= 4
    assert refused(batch).code is ErrorCode.CORRUPT_MESSAGE


@pytest.mark.parametrize("magic", [0, 1])
def test_old_formats_are_invalid(magic: int) -> None:
    batch = batch_of(b"a" * 30)
    batch[16] = magic
    assert refused(batch).code is ErrorCode.INVALID_RECORD
    assert refused(batch[:34]).code is ErrorCode.INVALID_RECORD


def test_an_unknown_format_is_corrupt() -> None:
    batch = batch_of(b"a")
    batch[16] = 3
    assert refused(batch).code is ErrorCode.CORRUPT_MESSAGE


def test_a_produced_batch_starts_at_offset_zero() -> None:
    assert refused(batch_of(b"a", base_offset=5)).code is ErrorCode.INVALID_RECORD


def test_a_batch_above_the_limit_is_too_large() -> None:
    batch = batch_of(b"a" * 1000)
    check(batch, max_message_bytes=len(batch))
    assert refused(batch, max_message_bytes=len(batch) - 1).code is ErrorCode.MESSAGE_TOO_LARGE
    assert refused(batch, segment_bytes=len(batch) - 1).code is ErrorCode.RECORD_LIST_TOO_LARGE


def test_count_and_offsets_have_to_agree() -> None:
    assert refused(with_field(batch_of(b"a", b"b"), 57, ">i", 3)).code is ErrorCode.INVALID_RECORD
    assert refused(with_field(batch_of(b"a", b"b"), 57, ">i", 0)).code is ErrorCode.INVALID_RECORD
    assert refused(with_field(batch_of(b"a", b"b"), 23, ">i", -1)).code is ErrorCode.INVALID_RECORD


def test_clients_write_no_control_records() -> None:
    assert refused(batch_of(b"a", control=True)).code is ErrorCode.INVALID_RECORD


def test_a_producer_id_needs_a_sequence() -> None:
    check(batch_of(b"a", producer_id=1, producer_epoch=0, base_sequence=0))
    assert refused(batch_of(b"a", producer_id=1, producer_epoch=0)).code is ErrorCode.INVALID_RECORD


def test_a_codec_that_does_not_exist_is_refused() -> None:
    assert refused(with_field(batch_of(b"a"), 21, ">h", 5)).code is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_records_of_compacted_topics_need_keys_and_the_keyless_are_named(codec: str) -> None:
    keys = [b"a", None, b"", None]
    batch = build_batch([Record(timestamp_ms=NOW, key=key, value=b"v" * 200) for key in keys], compression=codec)
    check(batch)
    error = refused(batch, cleanup_policy=("compact", "delete"))
    assert isinstance(error, InvalidRecord)
    assert error.code is ErrorCode.INVALID_RECORD
    assert [e.batch_index for e in error.record_errors] == [1, 3]


def test_a_compacted_topic_refuses_records_that_do_not_fill_their_batch() -> None:
    batch = with_field(build_batch([Record(key=b"k", value=b"v")] * 2), 57, ">i", 3)
    batch = with_field(batch, 23, ">i", 2)
    assert refused(batch, cleanup_policy=("compact",)).code is ErrorCode.CORRUPT_MESSAGE


def test_timestamps_ahead_of_the_limit_are_refused_by_record() -> None:
    times = [NOW, NOW + 3_600_001, NOW + 3_600_000]
    error = refused(build_batch([Record(timestamp_ms=time, value=b"v") for time in times]))
    assert isinstance(error, InvalidRecord)
    assert error.code is ErrorCode.INVALID_TIMESTAMP
    assert [e.batch_index for e in error.record_errors] == [1]
    check(build_batch([Record(timestamp_ms=times[2], value=b"v")]))


def test_timestamps_before_the_limit_are_refused_where_there_is_one() -> None:
    batch = build_batch([Record(timestamp_ms=time, value=b"v") for time in (NOW, NOW - 1001, -1)])
    check(batch)
    error = refused(batch, message_timestamp_before_max_ms=1000)
    assert isinstance(error, InvalidRecord)
    assert [e.batch_index for e in error.record_errors] == [1]


def test_producers_do_not_set_log_append_time() -> None:
    batch = batch_of(b"a")
    stamp(batch, parse_header(batch), NOW)
    assert refused(batch).code is ErrorCode.INVALID_TIMESTAMP
    check(batch, message_timestamp_type="LogAppendTime")


def test_recompression_keeps_records_and_producer() -> None:
    batch = batch_of(b"a" * 500, b"b" * 500, producer_id=9, producer_epoch=3, base_sequence=77)
    again = recompress(memoryview(batch), parse_header(batch), 4)
    header = parse_header(again)
    assert (header.codec, header.producer_id, header.producer_epoch, header.base_sequence) == (4, 9, 3, 77)
    assert list(read_records(again)) == list(read_records(batch))
