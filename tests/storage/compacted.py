"""A compacted log in the hands of a test: short ways to fill it, compact it and look at what is left."""

from __future__ import annotations

from pathlib import Path

from logqueue.clock import ManualClock
from logqueue.records import Record, build_batch, check_crc, iterate_batches, read_records
from logqueue.records.batch import BatchHeader
from logqueue.storage import Environment, LogDirectory, PartitionLog
from logqueue.storage.compaction.cleaning import Cleaning, CompactionLimits
from logqueue.storage.compaction.job import CompactionDone
from logqueue.storage.file_system import FileSystem
from tests.storage.disks import HastyFileSystem
from tests.storage.workload import NOW, PLAIN

RETENTION = 1000
"""delete.retention.ms of these logs."""


class Compacted:
    """The partition `plain-0`. Segments end where `roll` says, and everything dirty may be compacted."""

    def __init__(self, folder: Path, *, fs: FileSystem | None = None, **properties: str) -> None:
        self._attach(folder, fs)
        self.open()
        self.directory.create_topic(
            "plain",
            partitions=1,
            properties={
                "cleanup.policy": "compact",
                "delete.retention.ms": str(RETENTION),
                "min.cleanable.dirty.ratio": "0",
                "file.delete.delay.ms": "0",
                "index.interval.bytes": "100",
                **{name.replace("_", "."): value for name, value in properties.items()},
            },
        )

    @classmethod
    def existing(cls, folder: Path, *, fs: FileSystem) -> Compacted:
        """One that is there already, still to be opened."""
        kept = cls.__new__(cls)
        kept._attach(folder, fs)
        return kept

    def _attach(self, folder: Path, fs: FileSystem | None) -> None:
        self.folder = folder
        self.clock = ManualClock(time_ms=NOW)
        self._fs = fs

    def open(self) -> None:
        self.environment = Environment(fs=self._fs or HastyFileSystem())
        self.directory = LogDirectory.open(self.folder, clock=self.clock, environment=self.environment)
        self.cleaning = Cleaning(self.directory, self.environment)

    def close(self) -> None:
        self.directory.close()

    @property
    def log(self) -> PartitionLog:
        return self.directory.logs[PLAIN]

    @property
    def now(self) -> int:
        return self.clock.time_ms()

    # Filling

    def put(self, *pairs: tuple[str, str | None], codec: str = "none", time: int | None = None, **producer: int) -> int:
        """Append one batch of (key, value); answers its base offset. `producer`: pid, epoch, sequence, txn=1."""
        batch = build_batch(
            [
                Record(
                    timestamp_ms=self.now if time is None else time,
                    key=key.encode(),
                    value=None if value is None else value.encode(),
                )
                for key, value in pairs
            ],
            compression=codec,
            producer_id=producer.get("pid", -1),
            producer_epoch=producer.get("epoch", 0 if "pid" in producer else -1),
            base_sequence=producer.get("sequence", -1),
            transactional=bool(producer.get("txn", 0)),
        )
        return self.log.append(batch, leader_epoch=0, now_ms=self.now).base_offset

    def end(self, pid: int, *, commit: bool, epoch: int = 0) -> int:
        """Write the marker of a producer's transaction."""
        result = self.log.append_marker(pid, epoch, commit=commit, coordinator_epoch=0, leader_epoch=0, now_ms=self.now)
        return result.base_offset

    def roll(self) -> None:
        self.log.roll(self.now)

    # Compacting

    def compact(self, **limits: float) -> CompactionDone | None:
        """Compact everything below the active segment; None if nothing of it is dirty."""
        return self.cleaning.compact(
            self.log,
            now_ms=self.now,
            limits=CompactionLimits(**limits),  # type: ignore[arg-type]
            is_due=lambda plan: plan.dirty_bytes > 0,
        )

    def roll_and_compact(self, **limits: float) -> CompactionDone | None:
        """Compact everything there is. The new segment gets a record, as in a log that is being written to."""
        self.roll()
        self.put(("filler", "x"))
        return self.compact(**limits)

    # Looking

    def batches(self) -> list[tuple[BatchHeader, list[Record]]]:
        """Every batch as it is stored, its checksum and its offsets checked."""
        found: list[tuple[BatchHeader, list[Record]]] = []
        for chunk in self.log.iterate_batches(offset=self.log.log_start_offset, chunk_bytes=300):
            for position, header in iterate_batches(chunk):
                check_crc(chunk, position, header)
                records = list(read_records(chunk, position, header))
                assert all(header.base_offset <= record.offset <= header.last_offset for record in records)
                found.append((header, records))
        offsets = [offset for header, _ in found for offset in (header.base_offset, header.last_offset)]
        assert offsets == sorted(offsets)
        return found

    def records(self) -> list[tuple[int, str, str | None]]:
        """Every record but markers and fillers: (offset, key, value)."""
        return [
            (record.offset, _text(record.key) or "", _text(record.value))
            for header, records in self.batches()
            if not header.is_control
            for record in records
            if record.key != b"filler"
        ]

    def markers(self) -> list[int]:
        """Offsets of the control records that are left."""
        return [r.offset for header, records in self.batches() if header.is_control for r in records]

    def committed(self) -> list[tuple[int, str, str | None]]:
        """What a reader of committed records gets: records without those of aborted transactions."""
        log = self.log
        upper = log.last_stable_offset
        aborted = sorted(log.aborted_transactions(log.log_start_offset, upper), key=lambda txn: txn.first_offset)
        active: set[int] = set()
        found = []
        for header, records in self.batches():
            if header.base_offset >= upper:
                break
            while aborted and aborted[0].first_offset <= header.last_offset:
                active.add(aborted.pop(0).producer_id)
            if header.is_control:
                if records and (records[0].key or b"")[3:4] == b"\0":
                    active.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in active):
                found += [(r.offset, _text(r.key) or "", _text(r.value)) for r in records if r.key != b"filler"]
        return found

    def files(self, pattern: str) -> list[str]:
        return sorted(path.name for path in (self.folder / "plain-0").glob(pattern))


def latest(records: list[tuple[int, str, str | None]]) -> dict[str, str]:
    """The newest value of every key that has one."""
    state = {key: value for _, key, value in records}
    return {key: value for key, value in state.items() if value is not None}


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()
