"""Power cuts at every step of a life with transactions: what comes back is a prefix, and read as such."""

from __future__ import annotations

import random
from pathlib import Path

from logqueue.errors import LogqueueError
from logqueue.storage import Environment
from tests.crash.disk_states import states_over_time, write_image
from tests.crash.recording import RecordingFileSystem
from tests.storage.disks import HastyFileSystem
from tests.storage.workload import NOW, PLAIN, batch_of, open_directory
from tests.transactions_log.naive import Entry, aborted, committed_offsets, end_of, stable_offset, transactions
from tests.transactions_log.writing import end, produce, read_committed

STEPS = 110
EVERY = 131
"""Crash states apart that are tried."""

SEED = 11


class Life:
    """Transactions of three producers, flushes, checkpoints and a restart; tells what was written and what is safe."""

    def __init__(self, fs: RecordingFileSystem, folder: Path) -> None:
        self._fs = fs
        self._folder = folder
        self._entries: list[Entry] = []
        self._sequences = {1: 0, 2: 0, 3: 0}
        self._chance = random.Random(SEED)
        self._safe = 0

    def run(self) -> None:
        directory = open_directory(self._folder, Environment(fs=self._fs, max_open_files=3))
        properties = {"segment.bytes": "700", "index.interval.bytes": "150"}
        directory.create_topic("plain", partitions=1, properties=properties)
        for step in range(STEPS):
            log = directory.logs[PLAIN]
            producer = self._chance.choice([1, 2, 3])
            match self._chance.choices(["data", "end", "plain", "flush", "checkpoint"], [10, 5, 2, 3, 2])[0]:
                case "data":
                    self._write(Entry(end_of(self._entries), 2, producer, 0, True, self._sequences[producer]))
                    produce(log, producer, self._sequences[producer], count=2)
                    self._sequences[producer] += 2
                case "end":
                    commit = self._chance.random() < 0.4
                    self._write(Entry(end_of(self._entries), 1, producer, 0, True, commit=commit))
                    end(log, producer, commit=commit)
                case "plain":
                    self._write(Entry(end_of(self._entries), 1))
                    log.append(batch_of(step), leader_epoch=0, now_ms=NOW)
                case "flush":
                    self._safe = log.flush()
                    self._tell()
                case "checkpoint":
                    log.advance_recovery_point(force=True)
                    directory.checkpoint()
            if step == STEPS // 2:
                directory.close()
                self._safe = end_of(self._entries)
                self._tell()
                directory = open_directory(self._folder, Environment(fs=self._fs, max_open_files=3))
        directory.close()

    def _write(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._tell()

    def _tell(self) -> None:
        self._fs.mark((list(self._entries), self._safe))


def check(folder: Path, written: list[Entry], safe: int) -> None:
    """Open what a power cut left, see that it is a prefix with everything safe, and that it is read as one."""
    for _ in range(2):
        directory = open_directory(folder, Environment(fs=HastyFileSystem()))
        log = directory.logs.get(PLAIN)
        if log is not None:
            kept = [entry for entry in written if entry.base < log.log_end_offset]
            assert end_of(kept) == log.log_end_offset >= safe
            assert log.last_stable_offset == stable_offset(kept)
            assert read_committed(log, offset=0, max_bytes=900) == committed_offsets(kept, 0)
            stable = stable_offset(kept)
            found = log.aborted_transactions(0, stable) if stable else []
            assert set(found) == aborted(kept, 0, stable)
            opened = {each.producer: each.first for each in transactions(kept) if each.marker is None}
            assert {p: first for p in (1, 2, 3) if (first := log.open_transaction(p)) is not None} == opened
        directory.close()


def test_transactions_survive_a_power_cut_at_any_moment(tmp_path: Path) -> None:
    fs = RecordingFileSystem()
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    Life(fs, source).run()
    tried = 0
    for event, name, image in states_over_time(fs.journal, source, every=EVERY):
        tried += 1
        written, safe = event if isinstance(event, tuple) else ([], 0)
        write_image(image, target)
        try:
            check(target, written, safe)
        except (AssertionError, LogqueueError) as error:
            raise AssertionError(f"{name}: {error}") from error
    assert tried > 100


def test_a_new_index_is_on_the_disk_by_its_name_before_the_recovery_point_moves(tmp_path: Path) -> None:
    """Offset indexes that are lost are missed and made anew; a lost transaction index would say "none"."""
    fs = RecordingFileSystem()
    directory = open_directory(tmp_path, Environment(fs=fs))
    directory.create_topic("plain", partitions=1)
    log = directory.logs[PLAIN]
    for sequence in range(2):
        produce(log, 1, sequence)
        end(log, 1, commit=False)
        log.flush()
        log.advance_recovery_point(force=True)
    folder, index = log.folder, log.segments[0].txn_index.path
    synced = [change[:2] for change in fs.journal if change[:2] in (("sync", index), ("sync_dir", folder))]
    assert synced[-3:] == [("sync", index), ("sync_dir", folder), ("sync", index)]
    directory.close()
