"""What do record batches and protocol frames cost a process: build, check, read, compress, decode, answer?

In one thread, without a socket or a file. MB are of records before compression: JSON-like values of 100 bytes, 1,000 to
a batch. Each figure is of the fastest block of calls.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from benchmarks.generator.target import batch_of, one_record
from benchmarks.report import Figures, Settings
from benchmarks.timing import calls_per_second
from logqueue.config import LogConfig
from logqueue.protocol.api import ApiKey
from logqueue.protocol.frames import RequestHeader, read_request, read_request_header, write_request, write_response
from logqueue.protocol.messages.fetch import (
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from logqueue.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from logqueue.protocol.schema import Message
from logqueue.records import Record, build_batch, parse_header, read_records
from logqueue.records.validation import BatchRules, validate_produced

SETTINGS: Settings = {"seconds": 1, "codecs": "none lz4 zstd", "records": 1_000, "produce_version": 11}
VALUE_BYTES = 100
NOW_MS = 1_700_000_000_000
FETCH_VERSION = 16
MEGABYTE = 1_000_000
TOPIC_ID = bytes(range(16))


def run(settings: Settings) -> Figures:
    """Batches in every codec, then frames."""
    per_second = partial(calls_per_second, seconds=int(settings["seconds"]))
    figures: dict[str, float] = {}
    for codec in str(settings["codecs"]).split():
        figures |= _batches(per_second, codec, int(settings["records"]))
    return {**figures, **_checks(per_second), **_frames(per_second, int(settings["produce_version"]))}


def values(count: int) -> list[bytes]:
    """Different values of 100 bytes that compress about as jobs do."""
    choice = random.Random(1)
    made = []
    for number in range(count):
        text = b'{"number":%d,"tenant":"tenant-%d","token":"' % (number, choice.randrange(100))
        made.append(text + choice.randbytes(VALUE_BYTES).hex().encode()[: VALUE_BYTES - len(text) - 2] + b'"}')
    return made


def _batches(per_second: Callable[[Callable[[], object]], float], codec: str, count: int) -> Figures:
    records = [Record(timestamp_ms=NOW_MS, key=b"tenant", value=value) for value in values(count)]
    batch = build_batch(records, compression=codec)
    megabytes = count * VALUE_BYTES / MEGABYTE
    header = parse_header(batch)

    def read() -> None:
        for _ in read_records(batch, 0, header):
            pass

    return {
        f"build, {codec}, MB/s": megabytes * per_second(lambda: build_batch(records, compression=codec)),
        f"read, {codec}, MB/s": megabytes * per_second(read),
        f"batch, {codec}, bytes/record": len(batch) / count,
    }


def _checks(per_second: Callable[[Callable[[], object]], float]) -> Figures:
    """What the broker does with a batch before it stores it."""
    rules = BatchRules.of(LogConfig())
    one, large = memoryview(one_record(100)), memoryview(batch_of(MEGABYTE))

    def check(batch: memoryview) -> object:
        return validate_produced(batch, rules, now_ms=NOW_MS)

    return {
        "check, one record, us": 1e6 / per_second(lambda: check(one)),
        "check, 1 MB, MB/s": len(large) / MEGABYTE * per_second(lambda: check(large)),
    }


def _frames(per_second: Callable[[Callable[[], object]], float], version: int) -> Figures:
    produce, produced = _produce()
    fetch, fetched = _fetch()
    return {
        "produce: decode us": 1e6 / per_second(_decoder(ApiKey.PRODUCE, version, produce)),
        "produce: answer us": 1e6 / per_second(lambda: write_response(ApiKey.PRODUCE, version, 1, produced)),
        "fetch: decode us": 1e6 / per_second(_decoder(ApiKey.FETCH, FETCH_VERSION, fetch)),
        "fetch: answer us": 1e6 / per_second(lambda: write_response(ApiKey.FETCH, FETCH_VERSION, 1, fetched)),
    }


def _decoder(key: ApiKey, version: int, message: Message) -> Callable[[], object]:
    frame = b"".join(bytes(part) for part in write_request(RequestHeader(key, version, 1, "bench"), message))  # type: ignore[arg-type]
    body = memoryview(frame)[4:]

    def decode() -> object:
        _, position = read_request_header(body)
        return read_request(key, version, body, position)

    return decode


def _produce() -> tuple[ProduceRequest, ProduceResponse]:
    data = PartitionProduceData(index=0, records=memoryview(one_record(100)))
    part = PartitionProduceResponse(index=0, error_code=0, base_offset=5)
    return (
        ProduceRequest(acks=1, timeout_ms=10_000, topic_data=[TopicProduceData(name="bench", partition_data=[data])]),
        ProduceResponse(responses=[TopicProduceResponse(name="bench", partition_responses=[part])]),
    )


def _fetch() -> tuple[FetchRequest, FetchResponse]:
    wanted = FetchPartition(partition=0, fetch_offset=5, partition_max_bytes=1 << 20)
    part = PartitionData(partition_index=0, error_code=0, high_watermark=9, records=one_record(100))
    return (
        FetchRequest(max_wait_ms=500, min_bytes=1, topics=[FetchTopic(topic_id=TOPIC_ID, partitions=[wanted])]),
        FetchResponse(responses=[FetchableTopicResponse(topic_id=TOPIC_ID, partitions=[part])]),
    )
