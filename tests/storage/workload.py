"""A small life of a data folder, with a record of what was promised on the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from logqueue.clock import ManualClock
from logqueue.errors import KafkaError
from logqueue.ids import TopicPartition
from logqueue.records import Record, build_batch, check_crc, iterate_batches, read_records
from logqueue.storage import Environment, LogDirectory, PartitionLog
from logqueue.storage.file_system import FileSystem
from tests.storage.disks import HastyFileSystem

NOW = 1_700_000_000_000
PLAIN = TopicPartition("plain", 0)
IDEMPOTENT = TopicPartition("idempotent", 0)
DOOMED = TopicPartition("doomed", 0)


def batch_of(number: int, *, count: int = 1, size: int = 60, **options: int) -> bytearray:
    """A batch whose content tells its number."""
    records = [
        Record(timestamp_ms=NOW + number, key=b"%d" % number, value=b"%d.%d " % (number, index) + b"v" * size)
        for index in range(count)
    ]
    return build_batch(records, **options)  # type: ignore[arg-type]


def read_all(log: PartitionLog) -> list[tuple[int, bytes | None]]:
    """Every record that can be read, as (offset, value); checks checksums and rising offsets on the way."""
    found: list[tuple[int, bytes | None]] = []
    for chunk in log.iterate_batches(offset=log.log_start_offset, chunk_bytes=1000):
        for position, header in iterate_batches(chunk):
            check_crc(chunk, position, header)
            found += [(record.offset, record.value) for record in read_records(chunk, position, header)]
    offsets = [offset for offset, _ in found if offset >= log.log_start_offset]
    assert offsets == list(range(log.log_start_offset, log.log_end_offset))
    return found


@dataclass
class Promises:
    """What the world was told: sent records by partition, how many of them are safe, which topics exist."""

    sent: dict[TopicPartition, list[bytes]] = field(default_factory=dict)
    safe: dict[TopicPartition, int] = field(default_factory=dict)
    topics: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    sequences: int = 0

    def copy(self) -> Promises:
        return Promises(
            {p: list(values) for p, values in self.sent.items()},
            dict(self.safe),
            set(self.topics),
            set(self.deleted),
            self.sequences,
        )


class Workload:
    """Runs the life step by step; `on_promise` is called with every new promise."""

    def __init__(self, fs: FileSystem, folder: Path, on_promise: Callable[[Promises], None] = lambda _: None) -> None:
        self.folder = folder
        self.promises = Promises()
        self._fs = fs
        self._on_promise = on_promise
        self._number = 0
        self._sequence = 0

    def run(self, *, rounds: int = 3) -> None:
        """Raises KafkaError or DataFolderError as the disk fails."""
        directory = self._open()
        try:
            self._create(directory, "plain", {"segment.bytes": "700", "index.interval.bytes": "100"})
            self._create(directory, "idempotent", {"segment.bytes": "900", "index.interval.bytes": "200"})
            self._create(directory, "doomed", {})
            for number in range(rounds):
                for _ in range(4):
                    self._append(directory, PLAIN, count=1 + self._number % 3)
                    self._append_idempotent(directory)
                self._append(directory, DOOMED)
                self._flush(directory, PLAIN)
                self._flush(directory, IDEMPOTENT)
                directory.checkpoint()
                self._append(directory, PLAIN)
                if number == 1:
                    directory.delete_topic("doomed")
                    self.promises.deleted.add("doomed")
                    self._promise()
                    directory.purge()
                    self.promises.sent.pop(DOOMED, None)
                    self.promises.deleted.discard("doomed")
                    self._promise()
                    self._create(directory, "doomed", {})
        except BaseException:
            self._abandon(directory)
            raise
        directory.close()

    def _open(self) -> LogDirectory:
        return open_directory(self.folder, Environment(fs=self._fs, max_open_files=3))

    def _abandon(self, directory: LogDirectory) -> None:
        try:
            directory.close()
        except KafkaError:
            pass  # the failure that ended the run

    def _promise(self) -> None:
        self._on_promise(self.promises.copy())

    def _create(self, directory: LogDirectory, name: str, properties: dict[str, str]) -> None:
        directory.create_topic(name, partitions=1, properties=properties)
        self.promises.topics.add(name)
        self._promise()

    def _sending(self, partition: TopicPartition, batch: bytearray) -> None:
        values = self.promises.sent.setdefault(partition, [])
        values += [record.value or b"" for record in read_records(batch)]
        self._promise()

    def _append(self, directory: LogDirectory, partition: TopicPartition, *, count: int = 1) -> None:
        self._number += 1
        batch = batch_of(self._number, count=count)
        self._sending(partition, batch)
        directory.logs[partition].append(batch, leader_epoch=0, now_ms=NOW)

    def _append_idempotent(self, directory: LogDirectory) -> None:
        self._number += 1
        batch = batch_of(self._number, count=2, producer_id=5, producer_epoch=0, base_sequence=self._sequence)
        self._sending(IDEMPOTENT, batch)
        directory.logs[IDEMPOTENT].append(batch, leader_epoch=0, now_ms=NOW)
        self._sequence += 2

    def _flush(self, directory: LogDirectory, partition: TopicPartition) -> None:
        self.promises.safe[partition] = directory.logs[partition].flush()
        if partition == IDEMPOTENT:
            self.promises.sequences = self._sequence
        self._promise()


def open_directory(folder: Path, environment: Environment | None = None) -> LogDirectory:
    return LogDirectory.open(folder, clock=ManualClock(time_ms=NOW), environment=environment)


def check_kept(folder: Path, promises: Promises) -> None:
    """Open what a crash left and see that every promise holds, that nothing was made up, and that life goes on."""
    directory = open_directory(folder, Environment(fs=HastyFileSystem()))
    try:
        assert promises.topics - promises.deleted - {"doomed"} <= set(directory.topics)
        assert promises.deleted.isdisjoint(directory.topics)
        for partition, log in directory.logs.items():
            sent = promises.sent.get(partition, [])
            kept = [value for _, value in read_all(log)]
            assert kept == sent[: len(kept)], f"{partition} holds what was not sent there"
            assert len(kept) >= promises.safe.get(partition, 0), f"{partition} lost what was acknowledged"
            assert log.durable_offset == log.log_end_offset
            for offset in range(log.log_end_offset):
                chunk = log.read_bytes(log.read(offset=offset, max_bytes=1))
                assert offset in [record.offset for record in read_records(chunk)]
        log = directory.logs.get(IDEMPOTENT)
        if log is not None:
            entry = log.producer_state.get(5)
            expected = log.log_end_offset - 1
            assert (-1 if entry is None else entry.last_sequence) == expected
            assert expected + 1 >= promises.sequences
            batch = batch_of(10**6, producer_id=5, producer_epoch=0, base_sequence=expected + 1)
            result = log.append(batch, leader_epoch=0, now_ms=NOW)
            assert result.base_offset == expected + 1
            log.flush()
    finally:
        directory.close()
    again = open_directory(folder, Environment(fs=HastyFileSystem()))
    assert again.was_clean
    assert again.cuts == []
    again.close()


def empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
