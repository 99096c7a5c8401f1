"""A log with transactions against a plain list: whatever happens, it reads as the list says."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from logqueue.storage import Environment, LogDirectory, PartitionLog
from tests.storage.disks import HastyFileSystem
from tests.storage.workload import NOW, PLAIN, batch_of, open_directory
from tests.transactions_log.naive import Entry, aborted, committed_offsets, end_of, stable_offset, transactions
from tests.transactions_log.writing import coordinate, end, produce, read_committed

PRODUCERS = st.integers(1, 4)


class TransactionsMachine(RuleBasedStateMachine):
    """Plain, idempotent and transactional batches of several producers, markers, rolls, deletion, restarts, crashes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="logqueue-transactions-"))
        self.directory: LogDirectory
        self.entries: list[Entry] = []
        self.start = 0

    @property
    def log(self) -> PartitionLog:
        return self.directory.logs[PLAIN]

    @property
    def end(self) -> int:
        return end_of(self.entries)

    def _open(self) -> None:
        environment = Environment(fs=HastyFileSystem(), max_open_files=2, index_cache_bytes=100)
        self.directory = open_directory(self.folder / "data", environment)

    @initialize(segment=st.integers(300, 1500), interval=st.integers(0, 400))
    def create(self, segment: int, interval: int) -> None:
        self._open()
        properties = {"segment.bytes": str(segment), "index.interval.bytes": str(interval)}
        self.directory.create_topic("plain", partitions=1, properties=properties)

    def _last(self, producer: int) -> tuple[int, int]:
        """Epoch of a producer, and the sequence that it sends next."""
        mine = [entry for entry in self.entries if entry.producer == producer]
        if not mine:
            return 0, 0
        epoch = mine[-1].epoch
        sent = [e for e in mine if e.epoch == epoch and e.commit is None and e.sequence >= 0]
        return epoch, sent[-1].sequence + sent[-1].count if sent else 0

    def _open_transaction(self, producer: int) -> int | None:
        return next((t.first for t in transactions(self.entries) if t.marker is None and t.producer == producer), None)

    @rule(count=st.integers(1, 3))
    def append_plain(self, count: int) -> None:
        result = self.log.append(batch_of(len(self.entries), count=count), leader_epoch=0, now_ms=NOW)
        assert result.base_offset == self.end
        self.entries.append(Entry(self.end, count))

    @rule(producer=PRODUCERS, count=st.integers(1, 3), transactional=st.booleans(), version=st.sampled_from([1, 2]))
    def append(self, producer: int, count: int, transactional: bool, version: int) -> None:
        epoch, sequence = self._last(producer)
        transactional = transactional or self._open_transaction(producer) is not None
        result = produce(
            self.log, producer, sequence, epoch=epoch, count=count, transactional=transactional, version=version
        )
        assert (result.base_offset, result.is_duplicate) == (self.end, False)
        self.entries.append(Entry(self.end, count, producer, epoch, transactional, sequence))

    @rule(producer=st.integers(5, 6))
    def append_of_a_coordinator(self, producer: int) -> None:
        epoch = self._last(producer)[0]
        result = coordinate(self.log, producer, epoch=epoch)
        assert result.base_offset == self.end
        self.entries.append(Entry(self.end, 1, producer, epoch, True))

    @rule(producer=st.integers(1, 6), commit=st.booleans(), version=st.sampled_from([1, 2]))
    def end_transaction(self, producer: int, commit: bool, version: int) -> None:
        epoch = self._last(producer)[0] + (1 if version == 2 else 0)
        result = end(self.log, producer, commit=commit, epoch=epoch, version=version)
        assert result.base_offset == self.end
        self.entries.append(Entry(self.end, 1, producer, epoch, True, commit=commit))

    @rule()
    def flush(self) -> None:
        self.log.flush()

    @rule(force=st.booleans())
    def checkpoint(self, force: bool) -> None:
        if force:
            self.log.advance_recovery_point(force=True)
        self.directory.checkpoint()

    @rule()
    def stop_and_start(self) -> None:
        self.directory.close()
        self._open()
        assert self.directory.was_clean

    @rule(data=st.data(), lose_indexes=st.booleans(), tear_snapshot=st.booleans())
    def crash_and_start(self, data: st.DataObject, lose_indexes: bool, tear_snapshot: bool) -> None:
        """What was not flushed may be lost from any byte on; indexes may be gone and the newest snapshot torn."""
        durable = self.log.durable_offset
        crashed = self.folder / "crashed"
        shutil.copytree(self.folder / "data", crashed)
        self.directory.close()
        shutil.rmtree(self.folder / "data")
        crashed.rename(self.folder / "data")
        folder = self.folder / "data/plain-0"
        if self.entries and durable < self.end:
            last = max(folder.glob("*.log"))
            size = last.stat().st_size
            keep = data.draw(st.integers(0, size)) if durable <= int(last.stem) else size
            with last.open("r+b") as file:
                file.truncate(keep)
        if lose_indexes:
            for path in [*folder.glob("*.index"), *folder.glob("*.timeindex")]:
                path.unlink()
        snapshots = sorted(folder.glob("*.snapshot"))
        if tear_snapshot and snapshots and not self.start:
            with snapshots[-1].open("r+b") as file:
                file.truncate(data.draw(st.integers(0, snapshots[-1].stat().st_size)))
        self._open()
        kept = self.log.log_end_offset
        assert kept >= durable
        self.entries = [entry for entry in self.entries if entry.base < kept]
        assert self.end == kept

    @precondition(lambda self: bool(self.entries))
    @rule(data=st.data())
    def delete_records(self, data: st.DataObject) -> None:
        self.log.flush()
        self.start = data.draw(st.integers(self.start, self.end))
        self.log.delete_records_before(self.start)
        self.directory.checkpoint()

    @rule(data=st.data(), max_bytes=st.integers(1, 700))
    def read_committed(self, data: st.DataObject, max_bytes: int) -> None:
        offset = data.draw(st.integers(self.start, max(self.end, self.start)))
        assert read_committed(self.log, offset=offset, max_bytes=max_bytes) == self._committed(offset)

    def _committed(self, offset: int) -> list[int]:
        return committed_offsets(self.entries, offset, start=self.start)

    def _stable(self) -> int:
        return stable_offset(self.entries, start=self.start)

    @rule(data=st.data())
    def find_aborted(self, data: st.DataObject) -> None:
        stable = self._stable()
        if stable <= self.start:
            return
        offset = data.draw(st.integers(self.start, stable - 1))
        upper = data.draw(st.integers(offset + 1, stable))
        found = self.log.aborted_transactions(offset, upper)
        assert len(found) == len(set(found))
        assert set(found) == aborted(self.entries, offset, upper)

    @invariant()
    def the_ends_and_the_open_transactions_agree(self) -> None:
        if not hasattr(self, "directory"):
            return
        assert self.log.log_end_offset == self.end
        assert self.log.last_stable_offset == self._stable()
        expected = {t.producer: t.first for t in transactions(self.entries) if t.marker is None}
        assert {p: first for p in range(1, 7) if (first := self.log.open_transaction(p)) is not None} == expected
        for producer in range(1, 7):
            epoch, sequence = self._last(producer)
            known = self.log.producer_state.get(producer)
            assert (0 if known is None else known.epoch) == epoch
            assert producer > 4 or (-1 if known is None else known.last_sequence) == sequence - 1

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            assert read_committed(self.log, offset=self.start) == self._committed(self.start)
            self.directory.close()
        shutil.rmtree(self.folder)


TestTransactionsModel = TransactionsMachine.TestCase
TestTransactionsModel.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
