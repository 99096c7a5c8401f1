"""Our cleaner and Apache Kafka's on the same files leave the same; and Apache Kafka starts on ours."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as Position
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from logqueue.clock import ManualClock
from logqueue.ids import TopicPartition
from logqueue.records import iterate_batches, read_records
from logqueue.records.batch import DELETE_HORIZON, check_crc
from logqueue.storage import Environment, LogDirectory
from logqueue.storage.checkpoint import read_offsets, write_offsets
from logqueue.storage.compaction.cleaning import Cleaning
from logqueue.storage.file_system import RealFileSystem
from logqueue.storage.partition_metadata import format_metadata, parse_metadata
from tests.engines.apache import apache_kafka

TOPIC = "compacted"
PARTITION = f"{TOPIC}-0"
CONFIG = {"cleanup.policy": "compact", "segment.ms": "60000", "min.cleanable.dirty.ratio": "1.0"}
WAIT_SECONDS = 40

Stored = list[tuple[Any, ...]]


def stored(folder: Path) -> Stored:
    """Every batch of a partition's folder with its records; the base timestamp only where it is a horizon."""
    found: Stored = []
    for path in sorted(folder.glob("*.log")):
        data = path.read_bytes()
        for position, header in iterate_batches(data):
            check_crc(data, position, header)
            plain = header._replace(batch_length=0, crc=0, base_timestamp=0)
            horizon = header.base_timestamp if header.attributes & DELETE_HORIZON else None
            found.append((path.name, plain, horizon, tuple(read_records(data, position, header))))
    return found


class Script:
    """Keyed records, tombstones, transactions: the same few keys again and again, over many segments."""

    def __init__(self, bootstrap: str) -> None:
        options = {"bootstrap.servers": bootstrap, "linger.ms": 1000, "batch.num.messages": 5}
        self._plain = Producer(options)
        self._idempotent = Producer({**options, "enable.idempotence": True})
        self._packed = Producer({**options, "compression.type": "lz4"})
        self._transactional = Producer({**options, "transactional.id": "script"})
        self._transactional.init_transactions(20)
        self._time = int(time.time() * 1000)  # later than that of markers, which thus roll no segment

    def run(self, rounds: range) -> None:
        for number in rounds:
            self._time += 20_000
            producer = (self._plain, self._idempotent, self._packed)[number % 3]
            for step in range(5):
                value = None if (number + step) % 6 == 0 else f"v{number}.{step}"
                self._send(producer, f"k{(number * 3 + step) % 11}", value)
            producer.flush(20)
            if number % 4 == 0:
                self._transactional.begin_transaction()
                for step in range(3):
                    self._send(self._transactional, f"k{(number + step) % 11}", f"t{number}.{step}")
                self._transactional.flush(20)
                if number % 8 == 0:
                    self._transactional.commit_transaction(20)
                else:
                    self._transactional.abort_transaction(20)

    def _send(self, producer: Producer, key: str, value: str | None) -> None:
        producer.produce(TOPIC, value, key=key, partition=0, timestamp=self._time, headers=[("h", b"1")])


def alter(admin: AdminClient, **settings: str) -> None:
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=entries)
    for altered in admin.incremental_alter_configs([resource]).values():
        altered.result(20)


def wait_for(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_true():
        assert time.monotonic() < deadline, "Apache Kafka did not compact"
        time.sleep(0.1)


def bases(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.log"))


def cleaned_up_to(data: Path) -> int:
    offsets = read_offsets(RealFileSystem(), data / "cleaner-offset-checkpoint") or {}
    return next((offset for partition, offset in offsets.items() if str(partition) == PARTITION), -1)


def is_settled(data: Path, goal: int) -> bool:
    return cleaned_up_to(data) == goal and not list((data / PARTITION).glob("*.swap"))


def clean_ours(source: Path, folder: Path, *, clean_offset: int, now_ms: int, **settings: str) -> None:
    """Take a partition of Apache Kafka's over into a data folder of ours and compact it there."""
    directory = LogDirectory.open(folder, clock=ManualClock(time_ms=now_ms))
    topic_id = parse_metadata((source / "partition.metadata").read_bytes())
    config = {**CONFIG, **{name.replace("_", "."): value for name, value in settings.items()}}
    directory.create_topic(TOPIC, partitions=1, properties=config, topic_id=topic_id)
    directory.close()
    (folder / ".kafka_cleanshutdown").unlink()
    shutil.copytree(source, folder / PARTITION)
    point = {TopicPartition(TOPIC, 0): bases(source)[-1]}
    write_offsets(RealFileSystem(), folder / "recovery-point-offset-checkpoint", point)
    environment = Environment()
    directory = LogDirectory.open(folder, clock=ManualClock(time_ms=now_ms), environment=environment)
    assert directory.cuts == []
    (log,) = directory.logs.values()
    if clean_offset >= 0:
        directory.cleaned.set(log.partition, clean_offset)
    done = Cleaning(directory, environment).compact(log, now_ms=now_ms, is_due=lambda plan: plan.dirty_bytes > 0)
    assert done is not None
    directory.close()


def horizon_set_now(before: Stored, after: Stored) -> int | None:
    """The delete horizon that the last compaction gave."""
    known = {horizon for _, _, horizon, _ in before}
    return next((horizon for _, _, horizon, _ in after if horizon is not None and horizon not in known), None)


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "copies").mkdir()
    yield tmp_path / "copies"


@pytest.mark.slow
@pytest.mark.usefixtures("kafka_class_path")
def test_both_cleaners_leave_the_same_and_apache_kafka_starts_on_ours(tmp_path: Path, copies: Path) -> None:
    node = tmp_path / "node"
    node.mkdir()
    data = node / "data"
    settings = {"log.cleaner.backoff.ms": "100", "log.initial.task.delay.ms": "100"}
    rounds = [(range(24), "86400000"), (range(24, 36), "1"), (range(36, 48), "1"), (range(48, 60), "1")]
    with apache_kafka(node, settings) as bootstrap:
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for created in admin.create_topics([NewTopic(TOPIC, 1, config=CONFIG)]).values():
            created.result(20)
        script = Script(bootstrap)
        for number, (steps, retention) in enumerate(rounds):
            script.run(steps)
            source, before = copies / f"{number}", data / PARTITION
            clean_offset, goal = cleaned_up_to(data), bases(before)[-1]
            shutil.copytree(before, source)
            input_ = stored(source)
            alter(admin, min_cleanable_dirty_ratio="0.0001", delete_retention_ms=retention)
            wait_for(lambda goal=goal: is_settled(data, goal))  # type: ignore[misc]
            alter(admin, min_cleanable_dirty_ratio="1.0")
            theirs = stored(data / PARTITION)
            horizon = horizon_set_now(input_, theirs)
            now_ms = int(time.time() * 1000) if horizon is None else horizon - int(retention)
            ours = copies / f"ours-{number}"
            clean_ours(source, ours, clean_offset=clean_offset, now_ms=now_ms, delete_retention_ms=retention)
            assert len(theirs) < len(input_)
            assert stored(ours / PARTITION) == theirs, f"round {number}"
            assert _txn_indexes(ours / PARTITION) == _txn_indexes(data / PARTITION)
    _start_on_ours(node, ours / PARTITION, settings)


def _txn_indexes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.txnindex") if path.stat().st_size}


def _start_on_ours(node: Path, ours: Path, settings: dict[str, str]) -> None:
    """KRaft gives topics their ids, so the folder is told the one it has there; everything else is as we wrote it."""
    theirs = node / "data" / PARTITION
    topic_id = parse_metadata((theirs / "partition.metadata").read_bytes())
    assert topic_id is not None
    shutil.rmtree(theirs)
    shutil.copytree(ours, theirs)
    (theirs / "partition.metadata").write_bytes(format_metadata(topic_id))
    (node / "data" / ".kafka_cleanshutdown").unlink()  # so that every batch and index is recovered, not believed
    (node / "data" / "recovery-point-offset-checkpoint").unlink()
    expected = [
        (record.offset, record.key, record.value)
        for _, header, _, records in stored(ours)
        if not header.attributes & 0x20
        for record in records
    ]
    with apache_kafka(node, settings) as bootstrap:
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "g", "enable.partition.eof": False})
        consumer.assign([Position(TOPIC, 0, 0)])
        got = []
        while len(got) < len(expected):
            message = consumer.poll(20)
            assert message is not None and message.error() is None
            got.append((message.offset(), message.key(), message.value()))
        consumer.close()
    assert got == expected
    assert _logs(theirs) == _logs(ours), "recovery cut nothing and added nothing"


def _logs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.log") if path.stat().st_size}
