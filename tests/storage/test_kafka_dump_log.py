"""Apache Kafka's own tool reads every kind of file that we write."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from logqueue.ids import TopicPartition
from logqueue.records import Record, build_batch
from logqueue.storage import LogDirectory
from tests.storage.compacted import Compacted
from tests.storage.workload import NOW, open_directory

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def fill(folder: Path) -> LogDirectory:
    """Three partitions: every codec, times out of order, several segments, an idempotent producer."""
    directory = open_directory(folder)
    properties = {"segment.bytes": "16000", "index.interval.bytes": "1000"}
    directory.create_topic("dump", partitions=3, properties=properties)
    for index, log in enumerate(directory.logs.values()):
        sequence = 0
        for number in range(60):
            records = [
                Record(
                    timestamp_ms=NOW + number * 10 - (900 if number % 7 == 0 else 0) + step,
                    key=b"key %d" % step if step % 2 else None,
                    value=bytes((number * step + byte) % 251 for byte in range(number * 7 % 300)) * 4,
                    headers=(("job-attempt", b"1"), ("empty", b""), ("null", None)),
                )
                for step in range(1 + number % 9)
            ]
            batch = build_batch(
                records,
                compression=CODECS[number % len(CODECS)],
                producer_id=11 if index == 1 else -1,
                producer_epoch=0 if index == 1 else -1,
                base_sequence=sequence if index == 1 else -1,
            )
            sequence += len(records)
            log.append(batch, leader_epoch=0, now_ms=NOW)
            if number % 20 == 0:
                log.flush()
    return directory


def dump(class_path: str, *arguments: str) -> str:
    java = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", class_path]
    command = [*java, "kafka.tools.DumpLogSegments", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def complaints(output: str) -> list[str]:
    signs = ("mismatch", "corrupt", "invalid", "non-consecutive", "out of order", "could not find", "error", "skip")
    return [line for line in output.splitlines() if any(sign in line.lower() for sign in signs)]


@pytest.mark.slow
@pytest.mark.parametrize("was_clean", [True, False], ids=["clean", "recovered"])
def test_kafka_dump_log_reads_logs_indexes_and_snapshots(
    tmp_path: Path, kafka_class_path: str, was_clean: bool
) -> None:
    directory = fill(tmp_path)
    expected = sum(log.log_end_offset for log in directory.logs.values())
    assert all(log.segment_count > 1 for log in directory.logs.values())
    directory.close()
    if not was_clean:
        for path in [*tmp_path.glob("dump-*/*index"), tmp_path / ".kafka_cleanshutdown"]:
            path.unlink()
        (tmp_path / "recovery-point-offset-checkpoint").unlink()
        open_directory(tmp_path).close()
    files = sorted(tmp_path.glob("dump-*/*"))
    logs = [path for path in files if path.suffix == ".log"]
    indexes = [path for path in files if path.suffix in (".index", ".timeindex")]
    assert len(indexes) == 2 * len(logs)

    output = dump(kafka_class_path, "--deep-iteration", "--files", ",".join(map(str, logs)))
    assert complaints(output) == []
    assert output.count("isvalid: true") == 3 * 60
    assert output.count("| offset:") == expected

    output = dump(kafka_class_path, "--files", ",".join(map(str, indexes)))
    assert complaints(output) == []
    output = dump(kafka_class_path, "--index-sanity-check", "--files", ",".join(map(str, indexes)))
    assert output.count("passed sanity check") == len(indexes)

    snapshots = [path for path in files if path.suffix == ".snapshot"]
    output = dump(kafka_class_path, "--files", ",".join(map(str, snapshots)))
    assert complaints(output) == []
    assert "producerId: 11" in output


def fill_transactions(folder: Path) -> LogDirectory:
    """Transactions of two producers over several segments: committed, aborted, and one that is open."""
    directory = open_directory(folder)
    directory.create_topic("dump", partitions=1, properties={"segment.bytes": "2000"})
    log = directory.logs[TopicPartition("dump", 0)]
    for number in range(20):
        for producer in (21, 22):
            batch = build_batch(
                [Record(timestamp_ms=NOW, value=b"v" * 50)],
                producer_id=producer,
                producer_epoch=3,
                base_sequence=number,
                transactional=True,
            )
            log.append(batch, leader_epoch=0, now_ms=NOW)
        if number < 19:
            log.append_marker(21, 3, commit=number % 2 == 0, coordinator_epoch=7, leader_epoch=0, now_ms=NOW)
        if number == 10:
            log.append_marker(22, 3, commit=False, coordinator_epoch=7, leader_epoch=0, now_ms=NOW)
    return directory


@pytest.mark.slow
def test_kafka_dump_log_reads_markers_open_transactions_and_transaction_indexes(
    tmp_path: Path, kafka_class_path: str
) -> None:
    directory = fill_transactions(tmp_path)
    log = directory.logs[TopicPartition("dump", 0)]
    first_open = {log.open_transaction(producer) for producer in (21, 22)}
    aborted = log.aborted_transactions(0, log.log_end_offset)
    assert log.segment_count > 2
    assert len(aborted) == 10
    directory.close()
    files = sorted(path for path in tmp_path.glob("dump-0/*") if path.suffix in (".log", ".txnindex", ".snapshot"))

    output = dump(kafka_class_path, "--deep-iteration", "--files", ",".join(map(str, files)))
    assert complaints(output) == []
    assert output.count("isTransactional: true isControl: true") == 20
    assert output.count("endTxnMarker: COMMIT coordinatorEpoch: 7") == 10
    assert output.count("endTxnMarker: ABORT coordinatorEpoch: 7") == 10
    for entry in aborted:
        assert f"producerId: {entry.producer_id} firstOffset: {entry.first_offset} " in output
    newest = output[output.rindex(".snapshot") :]
    assert {f"currentTxnFirstOffset: OptionalLong[{offset}]" in newest for offset in first_open} == {True}
    assert newest.count("coordinatorEpoch: 7") == 2


@pytest.mark.slow
def test_kafka_dump_log_reads_compacted_segments_and_all_their_indexes(tmp_path: Path, kafka_class_path: str) -> None:
    kept = Compacted(tmp_path, segment_bytes="4000")
    for number in range(120):
        pairs = [(f"k{(number + step) % 13}", None if step == 4 else f"v{number}" * 20) for step in range(5)]
        kept.put(*pairs, codec=CODECS[number % len(CODECS)], pid=3, sequence=5 * number, txn=1)
        kept.end(3, commit=number % 3 > 0)
        kept.put((f"k{number % 13}", "x" * 30))
    kept.roll_and_compact()
    kept.clock.advance(1)
    kept.put(("gone", "x"), pid=3, sequence=600, txn=1)
    kept.end(3, commit=False)
    kept.roll_and_compact()
    kept.directory.purge()
    kept.close()
    files = sorted((tmp_path / "plain-0").iterdir())
    by_suffix = {
        suffix: [path for path in files if path.suffix == suffix and path.stat().st_size]
        for suffix in (".log", ".index", ".timeindex", ".txnindex")
    }
    assert all(by_suffix.values())
    output = dump(kafka_class_path, "--deep-iteration", "--files", ",".join(map(str, by_suffix[".log"])))
    # Gaps between offsets are what compaction leaves; the tool lists them for Apache Kafka's own cleaner, too.
    assert [line for line in complaints(output) if "non-consecutive" not in line.lower()] == []
    assert "isvalid: false" not in output
    assert "deleteHorizonMs: OptionalLong[" in output
    indexes = by_suffix[".index"] + by_suffix[".timeindex"]
    assert complaints(dump(kafka_class_path, "--files", ",".join(map(str, indexes)))) == []
    output = dump(kafka_class_path, "--index-sanity-check", "--files", ",".join(map(str, indexes)))
    assert output.count("passed sanity check") == len(indexes)
    output = dump(kafka_class_path, "--files", ",".join(map(str, by_suffix[".txnindex"])))
    assert "producerId: 3" in output and complaints(output) == []


def test_the_partitions_of_the_dump_hold_what_was_sent(tmp_path: Path) -> None:
    directory = fill(tmp_path)
    counts = {partition: log.log_end_offset for partition, log in directory.logs.items()}
    assert counts == {TopicPartition("dump", index): sum(1 + n % 9 for n in range(60)) for index in range(3)}
    directory.close()
