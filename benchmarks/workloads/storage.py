"""What do the log's own steps cost a process: append, find an offset or a time by its index, read, compact?

In one thread and without a broker, on files in the temporary folder; nothing waits for the disk. Offsets are looked up
at random in a log of `megabytes` in segments of `segment_mib`.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from benchmarks.generator.target import batch_of, one_record
from benchmarks.report import Figures, Settings
from benchmarks.timing import calls_per_second
from logqueue.clock import SystemClock
from logqueue.ids import TopicPartition
from logqueue.records import Record, build_batch, patch
from logqueue.storage import Environment, LogDirectory, PartitionLog
from logqueue.storage.compaction.cleaning import Cleaning

SETTINGS: Settings = {"megabytes": 200, "segment_mib": 64, "seconds": 1, "keys": 10_000}
SIZES = {"16 KiB": 16_384, "1 MB": 1_000_000}
INDEXED_BATCH = 4_000
COMPACTED_BATCH = 16_000
RECORD_BYTES = 1_000
FETCH_BYTES = 1 << 20
NO_LEADER_EPOCH = -1


def run(settings: Settings) -> Figures:
    """Each step on logs of its own in one data folder."""
    number = {name: int(value) for name, value in settings.items()}
    with tempfile.TemporaryDirectory(prefix="logqueue-bench-") as folder:
        environment = Environment()
        directory = LogDirectory.open(Path(folder), clock=SystemClock(), environment=environment)
        try:
            return {
                **_append(directory, number),
                **_look_up(directory, number),
                **_compact(directory, environment, number),
            }
        finally:
            directory.close()


def _topic(directory: LogDirectory, name: str, number: dict[str, int], **configs: str) -> PartitionLog:
    properties = {"segment.bytes": str(number["segment_mib"] << 20)} | {
        key.replace("_", "."): value for key, value in configs.items()
    }
    directory.create_topic(name, partitions=1, properties=properties)
    return directory.logs[TopicPartition(name, 0)]


def _append(directory: LogDirectory, number: dict[str, int]) -> Figures:
    figures: dict[str, float] = {}
    log = _topic(directory, "appended", number)
    record = bytearray(one_record(100))
    figures["append, one record, us"] = 1e6 / calls_per_second(lambda: _put(log, record), number["seconds"])
    for name, size in SIZES.items():
        log = _topic(directory, f"appended-{size}", number)
        batch = bytearray(batch_of(size))
        began = time.perf_counter()
        for _ in range(number["megabytes"] * 1_000_000 // len(batch)):
            _put(log, batch)
        figures[f"append, {name}, MB/s"] = number["megabytes"] / (time.perf_counter() - began)
    return figures


def _put(log: PartitionLog, batch: bytearray) -> None:
    """Append a batch that was appended before: its base offset goes back to what a producer sends."""
    patch(batch, 0, 0, NO_LEADER_EPOCH)
    log.append(batch, leader_epoch=0, now_ms=int(time.time() * 1000))


def _look_up(directory: LogDirectory, number: dict[str, int]) -> Figures:
    """Every batch is a millisecond later than the one before."""
    log = _topic(directory, "indexed", number)
    count = number["megabytes"] * 1_000_000 // INDEXED_BATCH
    value = b"x" * RECORD_BYTES
    for moment in range(count):
        batch = build_batch([Record(timestamp_ms=moment, value=value)] * (INDEXED_BATCH // RECORD_BYTES))
        log.append(batch, leader_epoch=0, now_ms=moment)
    choice = random.Random(2)
    end = log.log_end_offset
    return {
        "find an offset us": 1e6
        / calls_per_second(lambda: log.read(offset=choice.randrange(end), max_bytes=FETCH_BYTES), number["seconds"]),
        "find a time us": 1e6
        / calls_per_second(lambda: log.offset_for_timestamp(choice.randrange(count)), number["seconds"]),
    }


def _compact(directory: LogDirectory, environment: Environment, number: dict[str, int]) -> Figures:
    log = _topic(directory, "compacted", number, cleanup_policy="compact", min_cleanable_dirty_ratio="0")
    now_ms = int(time.time() * 1000)
    choice = random.Random(3)
    per_batch = COMPACTED_BATCH // RECORD_BYTES
    value = choice.randbytes(RECORD_BYTES)
    for _ in range(number["megabytes"] * 1_000_000 // COMPACTED_BATCH):
        keys = [b"%012d" % choice.randrange(number["keys"]) for _ in range(per_batch)]
        records = [Record(timestamp_ms=now_ms, key=key, value=value) for key in keys]
        log.append(build_batch(records), leader_epoch=0, now_ms=now_ms)
    log.roll(now_ms)
    log.append(build_batch([Record(timestamp_ms=now_ms, key=b"last", value=b"x")]), leader_epoch=0, now_ms=now_ms)
    done = Cleaning(directory, environment).compact(log, now_ms=now_ms)
    assert done is not None, "everything but the last segment was to be compacted"
    return {
        "compact MB/s": done.bytes_before / 1e6 / done.seconds,
        "compact records/s": done.records_before / done.seconds,
        "compacted bytes left %": 100 * done.bytes_after / done.bytes_before,
    }
