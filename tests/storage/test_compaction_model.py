"""Compaction against Kafka's rules written down plainly: what is left is exactly what has to be."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.storage.compacted import RETENTION, Compacted, latest

KEYS = "abcdef"


@dataclass
class Row:
    """A record as it was sent; `txn` numbers its transaction (None: outside of any)."""

    offset: int
    key: str
    value: str | None
    txn: int | None
    batch: int
    is_gone: bool = False


@dataclass
class Batch:
    """What decides over the tombstones in it."""

    segment: int
    horizon: int | None = None


class CompactionMachine(RuleBasedStateMachine):
    """Records, tombstones, transactions of two producers, rolls, compactions, crashes, time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="logqueue-compaction-"))
        self.kept: Compacted
        self.rows: list[Row] = []
        self.batches: dict[int, Batch] = {}
        self.segment = 0
        self.open: dict[int, int] = {}  # producer -> its transaction
        self.first_open: dict[int, int] = {}
        self.aborted: set[int] = set()
        self.sequences = {1: 0, 2: 0}
        self.transactions = 0
        self.clean_segments = 0

    @initialize(codec=st.sampled_from(["none", "zstd"]), size=st.sampled_from(["200", "600", "100000"]))
    def create(self, codec: str, size: str) -> None:
        self.codec = codec
        self.kept = Compacted(self.folder / "data", segment_bytes=size)

    @property
    def end(self) -> int:
        return self.kept.log.log_end_offset

    # What producers do

    @rule(
        pairs=st.lists(
            st.tuples(st.sampled_from(KEYS), st.none() | st.integers(0, 99).map(str)), min_size=1, max_size=4
        ),
        pid=st.sampled_from([None, 1, 2]),
    )
    def put(self, pairs: list[tuple[str, str | None]], pid: int | None) -> None:
        txn, producer = None, {}
        if pid is not None:
            if pid not in self.open:
                self.transactions += 1
                self.open[pid] = self.transactions
                self.first_open[pid] = self.end
            txn = self.open[pid]
            producer = {"pid": pid, "sequence": self.sequences[pid], "txn": 1}
            self.sequences[pid] += len(pairs)
        segments = self.kept.log.segment_count
        base = self.kept.put(*pairs, codec=self.codec, **producer)
        self.segment += self.kept.log.segment_count - segments
        self.batches[base] = Batch(self.segment)
        self.rows += [Row(base + i, key, value, txn, base) for i, (key, value) in enumerate(pairs)]

    @precondition(lambda self: bool(self.open))
    @rule(data=st.data(), commit=st.booleans())
    def end_transaction(self, data: st.DataObject, commit: bool) -> None:
        pid = data.draw(st.sampled_from(sorted(self.open)))
        segments = self.kept.log.segment_count
        self.kept.end(pid, commit=commit)
        self.segment += self.kept.log.segment_count - segments
        txn = self.open.pop(pid)
        del self.first_open[pid]
        if not commit:
            self.aborted.add(txn)

    @rule()
    def roll(self) -> None:
        segments = self.kept.log.segment_count
        self.kept.roll()
        self.segment += self.kept.log.segment_count - segments

    @rule(seconds=st.sampled_from([0.1, RETENTION / 1000]))
    def wait(self, seconds: float) -> None:
        self.kept.clock.advance(seconds)

    # What the broker does

    @rule()
    def compact(self) -> None:
        bases = [segment.base_offset for segment in self.kept.log.segments]
        stable = min(self.first_open.values(), default=self.end)
        limit = max((base for base in bases if base <= stable), default=0)
        before = latest(self.kept.committed())
        done = self.kept.compact()
        assert latest(self.kept.committed()) == before, "a reader sees another latest value"
        if done is None:
            return
        assert done.clean_offset == limit
        self._apply(limit)
        self.kept.directory.purge()

    def _apply(self, limit: int) -> None:
        """Kafka's rules: newest record of a key that is not aborted; tombstones until their batch's horizon."""
        now = self.kept.now
        counted = [row for row in self.rows if row.offset < limit and row.txn not in self.aborted and not row.is_gone]
        newest = {row.key: row.offset for row in counted}
        for row in self.rows:
            if row.offset >= limit or row.is_gone:
                continue
            horizon = self.batches[row.batch].horizon
            is_expired = row.value is None and horizon is not None and now >= horizon
            if row.txn in self.aborted or row.offset < newest[row.key] or is_expired:
                row.is_gone = True
        for base, batch in self.batches.items():
            left = [row for row in self.rows if row.batch == base and not row.is_gone]
            if base < limit and batch.horizon is None and any(row.value is None for row in left):
                batch.horizon = now + RETENTION

    @rule(is_clean=st.booleans())
    def stop_and_start(self, is_clean: bool) -> None:
        if is_clean:
            self.kept.close()
        else:
            shutil.copytree(self.folder / "data", self.folder / "copy")
            self.kept.close()
            shutil.rmtree(self.folder / "data")
            (self.folder / "copy").rename(self.folder / "data")
        self.kept.open()
        assert self.kept.directory.cuts == []

    # What must hold

    @invariant()
    def what_is_left_is_what_has_to_be(self) -> None:
        if hasattr(self, "kept"):
            expected = [(row.offset, row.key, row.value) for row in self.rows if not row.is_gone]
            assert self.kept.records() == expected

    @invariant()
    def ends_and_transactions_stay(self) -> None:
        if hasattr(self, "kept"):
            log = self.kept.log
            assert log.last_stable_offset == min(self.first_open.values(), default=self.end)
            committed = [
                (row.offset, row.key, row.value)
                for row in self.rows
                if not row.is_gone and row.txn not in self.aborted and row.offset < log.last_stable_offset
            ]
            assert self.kept.committed() == committed

    @invariant()
    def sequences_go_on(self) -> None:
        if hasattr(self, "kept"):
            for pid, following in self.sequences.items():
                entry = self.kept.log.producer_state.get(pid)
                if following and entry is not None and entry.batches:
                    assert entry.last_sequence == following - 1

    def teardown(self) -> None:
        if hasattr(self, "kept"):
            for offset in range(self.end):
                part = self.kept.log.read(offset=offset, max_bytes=1)
                assert part.next_offset > offset, "every offset leads on"
            self.kept.close()
        shutil.rmtree(self.folder)


TestCompactionModel = CompactionMachine.TestCase
TestCompactionModel.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
