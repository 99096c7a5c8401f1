"""Batches as bytes: what is built is read back, what clients build is understood, what is damaged is refused."""

from __future__ import annotations

import random
import struct
import warnings
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder as AiokafkaBuilder
from aiokafka.record.memory_records import MemoryRecords as AiokafkaRecords
from hypothesis import given
from hypothesis import strategies as st

from logqueue.records import CorruptMessage, Record, build_batch, check_crc, iterate_batches, parse_header, patch
from logqueue.records.batch import HEADER_SIZE, MAX_SEQUENCE, add_sequence, patch_log_append_time
from logqueue.records.builder import read_records
from logqueue.records.compression import MAX_DECOMPRESSED_BYTES, Codec, compress, decompress
from logqueue.records.control import ControlType, EndTransactionMarker, marker_record, parse_marker
from logqueue.records.errors import UnsupportedCompressionType
from logqueue.records.record import read_varint, write_varint

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it reads its schemas with importlib.resources.read_text
    from kafka.record.default_records import DefaultRecordBatchBuilder as KafkaPythonBuilder

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
TIMES = st.integers(min_value=0, max_value=2**45)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
headers = st.lists(st.tuples(texts, st.none() | st.binary(max_size=40)), max_size=4).map(tuple)
records = st.builds(
    Record,
    offset=st.just(0),
    timestamp_ms=TIMES,
    key=st.none() | st.binary(max_size=40),
    value=st.none() | st.binary(max_size=400),
    headers=headers,
)


def placed(batch: list[Record], base_offset: int) -> list[Record]:
    return [record._replace(offset=base_offset + index) for index, record in enumerate(batch)]


@given(st.lists(records, min_size=1, max_size=20), st.integers(0, 2**50), st.sampled_from(CODECS))
def test_a_batch_gives_back_the_records_it_was_built_from(batch: list[Record], base: int, codec: str) -> None:
    data = build_batch(batch, base_offset=base, compression=codec)
    header = parse_header(data)
    check_crc(data, 0, header)
    assert header.size == len(data)
    assert header.record_count == len(batch) == header.last_offset_delta + 1
    assert header.max_timestamp == max(record.timestamp_ms for record in batch)
    assert list(read_records(data)) == placed(batch, base)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_varint_is_read_as_it_was_written(number: int) -> None:
    out = bytearray(b"\xff")
    write_varint(out, number)
    assert read_varint(out, 1) == (number, len(out))


@given(st.binary(max_size=200_000), st.sampled_from(list(Codec)))
def test_every_codec_gives_back_the_bytes(data: bytes, codec: Codec) -> None:
    assert bytes(decompress(codec, compress(codec, data))) == data


@pytest.mark.parametrize("codec", list(Codec))
def test_a_block_of_many_frames_comes_back(codec: Codec) -> None:
    data = b"".join(struct.pack(">I", number * 2654435761 % 2**32) for number in range(100_000)) + bytes(300_000)
    assert bytes(decompress(codec, compress(codec, data))) == data


@pytest.mark.parametrize(("codec", "number"), [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)])
def test_batches_of_aiokafka_are_understood(codec: str, number: int) -> None:
    builder = AiokafkaBuilder(
        magic=2,
        compression_type=number,
        is_transactional=0,
        producer_id=7,
        producer_epoch=2,
        base_sequence=40,
        batch_size=1 << 20,
    )
    expected = []
    for index in range(200):
        record = Record(index, 1_700_000_000_000 + index, b"k%d" % index, b"v" * index, (("h", b"x"), ("null", None)))
        builder.append(index, record.timestamp_ms, record.key, record.value, list(record.headers))
        expected.append(record)
    data = bytes(builder.build())
    header = parse_header(data)
    check_crc(data, 0, header)
    assert (header.codec, header.producer_id, header.producer_epoch, header.base_sequence) == (number, 7, 2, 40)
    assert header.last_sequence == 239
    assert list(read_records(data)) == expected


@pytest.mark.parametrize(("codec", "number"), [("none", 0), ("gzip", 1)])
def test_batches_of_kafka_python_are_understood(codec: str, number: int) -> None:
    builder = KafkaPythonBuilder(2, number, False, -1, -1, -1, 1 << 20)
    expected = []
    for index in range(100):
        record = Record(index, 1_700_000_000_000 - index, None, b"value %d" % index, (("a", b""),))
        builder.append(index, record.timestamp_ms, record.key, record.value, list(record.headers))
        expected.append(record)
    data = bytes(builder.build())
    check_crc(data, 0, parse_header(data))
    assert list(read_records(data)) == expected


@pytest.mark.parametrize("codec", CODECS)
def test_aiokafka_understands_our_batches(codec: str) -> None:
    batch = [Record(0, 1_000 + index, b"k", b"v" * 1000, (("h", b"1"),)) for index in range(300)]
    data = build_batch(batch, base_offset=12, leader_epoch=3, compression=codec)
    read: list[Any] = []
    whole = AiokafkaRecords(bytes(data))
    while (found := whole.next_batch()) is not None:
        assert found.validate_crc()
        read += [
            Record(r.offset, r.timestamp, r.key, r.value, tuple((name, value) for name, value in r.headers))
            for r in found
        ]
    assert read == placed(batch, 12)


def test_patching_moves_a_batch_without_breaking_its_checksum() -> None:
    data = build_batch([Record(timestamp_ms=5, value=b"x")] * 3)
    patch(data, 0, 2**40, 17)
    header = parse_header(data)
    check_crc(data, 0, header)
    assert (header.base_offset, header.leader_epoch, header.last_offset, header.next_offset) == (
        2**40,
        17,
        2**40 + 2,
        2**40 + 3,
    )


def test_the_brokers_time_stands_in_every_record_and_the_checksum_follows() -> None:
    data = build_batch([Record(timestamp_ms=5, value=b"x"), Record(timestamp_ms=9, value=b"y")])
    patch_log_append_time(data, 0, parse_header(data), 1234)
    header = parse_header(data)
    check_crc(data, 0, header)
    assert header.is_log_append_time
    assert [record.timestamp_ms for record in read_records(data)] == [1234, 1234]


def test_batches_are_walked_in_order_and_a_torn_last_one_is_an_error_unless_allowed() -> None:
    first, second = (build_batch([Record(value=b"v" * size)]) for size in (10, 700))
    both = bytes(first + second)
    assert [position for position, _ in iterate_batches(both)] == [0, len(first)]
    for cut in range(len(first) + 1, len(both)):
        assert [position for position, _ in iterate_batches(both[:cut], partial_tail=True)] == [0]
        with pytest.raises(CorruptMessage):
            list(iterate_batches(both[:cut]))


def test_every_flipped_bit_behind_the_patched_fields_is_noticed() -> None:
    clean = build_batch([Record(timestamp_ms=1, key=b"k", value=b"v", headers=(("h", None),))] * 2)
    for position in [*range(8, 12), *range(16, len(clean))]:
        for bit in range(8):
            data = bytearray(clean)
            data[position] ^= 1 << bit
            with pytest.raises(CorruptMessage):
                check_crc(data, 0, parse_header(data))


@given(st.binary(max_size=300))
def test_garbage_is_refused_as_corrupt_and_nothing_else(data: bytes) -> None:
    with pytest.raises(CorruptMessage):
        check_crc(data, 0, parse_header(data))


@given(st.binary(max_size=200), st.sampled_from(list(Codec)[1:]))
def test_garbage_records_are_refused_whatever_the_codec(data: bytes, codec: Codec) -> None:
    batch = build_batch([Record(value=b"x")] * 5)
    batch[HEADER_SIZE:] = data
    batch[8:12] = struct.pack(">i", len(batch) - 12)
    batch[21:23] = struct.pack(">h", codec)
    with pytest.raises(CorruptMessage):
        list(read_records(batch))


def test_a_codec_that_does_not_exist_is_named() -> None:
    batch = build_batch([Record(value=b"x")])
    batch[21:23] = struct.pack(">h", 7)
    with pytest.raises(UnsupportedCompressionType, match="7"):
        list(read_records(batch))


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.LZ4, Codec.ZSTD, Codec.SNAPPY])
def test_a_decompression_bomb_is_refused(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logqueue.records.compression.MAX_DECOMPRESSED_BYTES", 100_000)
    assert MAX_DECOMPRESSED_BYTES > 100_000
    with pytest.raises(CorruptMessage):
        decompress(codec, compress(codec, bytes(100_001)))
    assert len(decompress(codec, compress(codec, bytes(100_000)))) == 100_000


def test_sequences_wrap_after_the_largest() -> None:
    assert add_sequence(MAX_SEQUENCE, 1) == 0
    assert add_sequence(MAX_SEQUENCE - 1, 3) == 1
    assert add_sequence(0, -1) == MAX_SEQUENCE


def test_a_transaction_marker_is_read_as_it_was_written() -> None:
    for kind in ControlType:
        marker = EndTransactionMarker(kind, 12)
        record = marker_record(marker, timestamp_ms=1)
        data = build_batch([record], producer_id=3, producer_epoch=1, transactional=True, control=True)
        header = parse_header(data)
        assert header.is_control and header.is_transactional
        assert [parse_marker(record) for record in read_records(data)] == [marker]
    assert parse_marker(Record(key=struct.pack(">hh", 0, 9), value=b"")) is None
    with pytest.raises(CorruptMessage):
        parse_marker(Record(key=b"\0"))


@pytest.mark.parametrize("level", [None, 1, 9, 12, 17])
def test_every_level_of_lz4_can_be_read_again(level: int | None) -> None:
    plain = bytes(range(256)) * 1000 + b"a" * 100_000
    assert bytes(decompress(Codec.LZ4, compress(Codec.LZ4, plain, level))) == plain
    noise = random.Random(1).randbytes(200_000)
    assert bytes(decompress(Codec.LZ4, compress(Codec.LZ4, noise, level))) == noise
