"""Retention and compaction in a running broker: at their intervals, in a process of its own, and within bounds."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from logqueue.broker.broker import Broker
from logqueue.broker.doctor.finding import Status
from logqueue.broker.doctor.folder import look_at_folder
from logqueue.broker.metrics.page import render
from logqueue.broker.metrics.snapshot import take
from logqueue.broker.upkeep.cleaner import Cleaner
from logqueue.config import BrokerConfig
from logqueue.ids import TopicPartition
from logqueue.records import Record, build_batch, iterate_batches, read_records
from logqueue.storage import Environment, PartitionLog
from logqueue.storage.compaction.cleaning import Cleaning
from logqueue.storage.file_system import RealFileSystem
from tests.broker.threads import Threads

KEYED = TopicPartition("keyed", 0)
COMPACT = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "file.delete.delay.ms": "0"}
LIMIT_SECONDS = 60


async def until(is_true: Callable[[], bool]) -> None:
    """Let the broker's loop run until something is so: its tasks and processes have no other signal to wait for."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not is_true():
            await asyncio.sleep(0.01)


def play(
    scene: Callable[[Broker], Awaitable[None]], folder: Path, *, environment: Environment | None = None, **config: Any
) -> None:
    """Run a broker around a scene."""

    async def run() -> None:
        settings = BrokerConfig(data_dir=folder, port=0, log_cleaner_backoff_ms=100, **config)
        broker = Broker(settings, environment=environment)
        await broker.start()
        try:
            await scene(broker)
        finally:
            await broker.stop()

    asyncio.run(run())


def fill(
    broker: Broker, topic: str, *, count: int = 300, size: int = 100, config: dict[str, str] = COMPACT
) -> PartitionLog:
    """A topic of one partition with a few keys written many times, all of it shown and in a rolled segment."""
    if topic not in broker.topics.by_name:
        broker.topics.create(topic, partitions=1, overrides=config)
    partition = broker.topics.partition(topic, 0)
    now_ms = broker.clock.time_ms()
    for number in range(count):
        batch = build_batch([Record(timestamp_ms=now_ms, key=b"k%d" % (number % 10), value=b"x" * size)])
        partition.log.append(batch, leader_epoch=0, now_ms=now_ms)
    partition.appended(0)
    partition.log.roll(now_ms)
    return partition.log


def records(log: PartitionLog) -> list[tuple[int, bytes | None]]:
    chunks = log.iterate_batches(offset=log.log_start_offset)
    return [(r.offset, r.key) for c in chunks for at, _ in iterate_batches(c) for r in read_records(c, at)]


def cleaner_of(broker: Broker) -> Cleaner | None:
    assert broker.upkeep is not None
    return broker.upkeep.cleaner


def is_compacted(broker: Broker, count: int = 1) -> bool:
    cleaner = cleaner_of(broker)
    return cleaner is not None and not cleaner.in_progress and cleaner.compactions >= count


def test_a_dirty_log_is_compacted_by_a_process_that_then_ends(tmp_path: Path) -> None:
    async def scene(broker: Broker) -> None:
        log = fill(broker, "keyed")
        await until(lambda: is_compacted(broker))
        assert records(log) == [(offset, b"k%d" % (offset % 10)) for offset in range(290, 300)]
        cleaner = cleaner_of(broker)
        assert cleaner is not None
        await until(lambda: not cleaner.processes)
        fill(broker, "keyed")
        await until(lambda: is_compacted(broker, 2))
        assert len(records(log)) == 10

    play(scene, tmp_path)


def test_a_log_that_is_not_dirty_enough_starts_no_process(tmp_path: Path) -> None:
    async def scene(broker: Broker) -> None:
        fill(broker, "keyed", config={**COMPACT, "min.cleanable.dirty.ratio": "1"})
        await until(lambda: (cleaner := cleaner_of(broker)) is not None and cleaner.looks > 1)
        cleaner = cleaner_of(broker)
        assert cleaner is not None and not cleaner.processes and not cleaner.compactions
        assert cleaner.max_dirty_ratio == 1

    play(scene, tmp_path)


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
def test_old_segments_go_at_the_interval(tmp_path: Path, policy: str) -> None:
    async def scene(broker: Broker) -> None:
        config = {
            "cleanup.policy": policy,
            "retention.bytes": "0",
            "file.delete.delay.ms": "0",
            "segment.bytes": "2000",
        }
        log = fill(broker, "keyed", config={**config, "min.cleanable.dirty.ratio": "1"})
        await until(lambda: log.log_start_offset == 300)
        await until(lambda: [path.name for path in (tmp_path / "keyed-0").glob("*.log*")] == [f"{300:020d}.log"])

    play(scene, tmp_path, log_retention_check_interval_ms=50, log_flush_offset_checkpoint_interval_ms=50)


def test_passes_that_get_no_thread_are_made_good_later_and_a_stop_stops(tmp_path: Path) -> None:
    async def scene(broker: Broker) -> None:
        threads = Threads()
        broker.loop.set_default_executor(threads)
        threads.is_exhausted = True
        await until(lambda: threads.refused >= 6)
        threads.is_exhausted = False
        config = {"cleanup.policy": "delete", "retention.bytes": "0", "file.delete.delay.ms": "0"}
        log = fill(broker, "old", config=config)
        await until(lambda: log.log_start_offset == 300)
        await until(lambda: [path.name for path in (tmp_path / "old-0").glob("*.log*")] == [f"{300:020d}.log"])
        await until(lambda: "old 0 300" in (tmp_path / "log-start-offset-checkpoint").read_text())
        threads.is_exhausted = True
        await until(lambda: threads.refused >= 8)
        threads.is_exhausted = False
        await broker.stop()
        assert (tmp_path / ".kafka_cleanshutdown").exists()

    settings = {"log_retention_check_interval_ms": 50, "log_flush_offset_checkpoint_interval_ms": 50}
    play(scene, tmp_path, log_cleaner_enable=False, **settings)


def test_a_cleaner_that_gets_no_thread_goes_on_after_the_backoff(tmp_path: Path) -> None:
    async def scene(broker: Broker) -> None:
        threads = Threads()
        broker.loop.set_default_executor(threads)
        threads.is_exhausted = True
        log = fill(broker, "keyed")
        await until(lambda: threads.refused >= 5)
        threads.is_exhausted = False
        await until(lambda: is_compacted(broker))
        assert len(records(log)) == 10
        cleaner = cleaner_of(broker)
        assert cleaner is not None and not cleaner.uncleanable

    play(scene, tmp_path)


def test_a_log_is_not_taken_for_damaged_because_there_was_no_thread_for_it(tmp_path: Path) -> None:
    async def scene(broker: Broker) -> None:
        threads = Threads()
        broker.loop.set_default_executor(threads)
        fill(broker, "keyed", config={**COMPACT, "min.cleanable.dirty.ratio": "1"})
        await until(lambda: (cleaner := cleaner_of(broker)) is not None and cleaner.looks > 0)
        cleaner = cleaner_of(broker)
        assert cleaner is not None
        threads.is_exhausted = True
        log = fill(broker, "due")
        await until(lambda: threads.refused >= 4)
        assert not cleaner.uncleanable
        threads.is_exhausted = False
        await until(lambda: is_compacted(broker))
        assert len(records(log)) == 10

    play(scene, tmp_path)


def test_what_was_swapped_in_is_settled_without_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(broker: Broker) -> None:
        threads = Threads()
        broker.loop.set_default_executor(threads)
        swap = Cleaning.swap

        def swap_and_use_up(cleaning: Cleaning, replacement: Any) -> bool:
            is_swapped = swap(cleaning, replacement)
            threads.is_exhausted = is_swapped
            return is_swapped

        monkeypatch.setattr(Cleaning, "swap", swap_and_use_up)
        log = fill(broker, "keyed")
        await until(lambda: threads.refused > 0)
        assert not list((tmp_path / "keyed-0").glob("*.swap"))
        threads.is_exhausted = False
        monkeypatch.undo()
        await until(lambda: is_compacted(broker))
        assert len(records(log)) == 10

    play(scene, tmp_path)


class OneUnreadable(RealFileSystem):
    """A disk that opens no log of the topic `broken` any more, once it is told so."""

    is_failing = False

    def open(self, path: Path, *, create: bool = False) -> int:
        if self.is_failing and path.parent.name == "broken-0":
            raise OSError(5, "Input/output error")
        return super().open(path, create=create)


def test_a_log_that_cannot_be_read_holds_up_the_retention_of_no_other(tmp_path: Path) -> None:
    config = {"cleanup.policy": "delete", "retention.ms": "0", "file.delete.delay.ms": "0", "segment.bytes": "2000"}
    disk = OneUnreadable()

    async def fill_both(broker: Broker) -> None:
        for topic in ("broken", "whole"):
            fill(broker, topic, count=30, config=config)

    async def look(broker: Broker) -> None:
        disk.is_failing = True
        broken, whole = (broker.topics.partition(topic, 0).log for topic in ("broken", "whole"))
        await until(lambda: whole.log_start_offset == 30)
        assert broken.log_start_offset == 0

    play(fill_both, tmp_path)
    disk_of_now = Environment(fs=disk, max_open_files=1)
    play(look, tmp_path, environment=disk_of_now, log_retention_check_interval_ms=50)


def test_a_damaged_log_is_given_up_and_the_others_are_not(tmp_path: Path) -> None:
    async def scene(broker: Broker) -> None:
        log = fill(broker, "keyed", count=500)
        with log.segments[0].path.open("r+b") as file:
            file.seek(200)
            file.write(b"\xff")
        other = fill(broker, "other")
        await until(lambda: (cleaner := cleaner_of(broker)) is not None and bool(cleaner.uncleanable))
        await until(lambda: is_compacted(broker))
        cleaner = cleaner_of(broker)
        assert cleaner is not None
        assert list(cleaner.uncleanable) == [KEYED]
        assert "checksum" in cleaner.uncleanable[KEYED]
        assert len(records(other)) == 10
        assert log.segments[0].size > 30_000
        assert list((tmp_path / "keyed-0").glob("*.cleaned")) == []
        await until(lambda: (tmp_path / "logqueue-uncleanable.json").exists())
        (finding,) = (each for each in look_at_folder(tmp_path, is_running=True) if each.check == "compaction")
        assert (finding.status, "keyed-0" in finding.text) == (Status.PROBLEM, True)
        assert f"logcleanermanager_uncleanable_bytes {float(log.size)}".encode() in render(take(broker))
        broker.topics.delete(broker.topics.by_name["keyed"])
        await until(lambda: not cleaner.uncleanable)
        await until(lambda: not (tmp_path / "logqueue-uncleanable.json").exists())

    play(scene, tmp_path)


def test_a_process_that_is_killed_is_replaced(tmp_path: Path) -> None:
    async def scene(broker: Broker) -> None:
        log = fill(broker, "keyed", size=4000)
        await until(lambda: bool((cleaner := cleaner_of(broker)) and cleaner.processes))
        cleaner = cleaner_of(broker)
        assert cleaner is not None
        (pid,) = cleaner.processes
        os.kill(pid, signal.SIGKILL)
        await until(lambda: is_compacted(broker))
        assert len(records(log)) == 10
        assert not cleaner.uncleanable

    play(scene, tmp_path, log_cleaner_io_max_bytes_per_second=2_000_000.0)


def test_a_stop_breaks_a_compaction_off_and_nothing_is_lost(tmp_path: Path) -> None:
    async def scene(broker: Broker) -> None:
        fill(broker, "keyed", size=4000)
        await until(lambda: bool(list((tmp_path / "keyed-0").glob("*.cleaned"))))
        began = broker.loop.time()
        await broker.stop()
        assert broker.loop.time() - began < 10

    play(scene, tmp_path, log_cleaner_io_max_bytes_per_second=500_000.0)

    async def after(broker: Broker) -> None:
        log = broker.topics.partition("keyed", 0).log
        await until(lambda: is_compacted(broker))
        assert len(records(log)) == 10

    play(after, tmp_path)


def test_a_topic_may_be_deleted_and_come_back_while_it_is_compacted(tmp_path: Path) -> None:
    async def scene(broker: Broker) -> None:
        fill(broker, "keyed", size=4000)
        await until(lambda: bool(list((tmp_path / "keyed-0").glob("*.cleaned"))))
        broker.topics.delete(broker.topics.get("keyed"))
        log = fill(broker, "keyed", count=20, config={**COMPACT, "min.cleanable.dirty.ratio": "1"})
        cleaner = cleaner_of(broker)
        assert cleaner is not None
        await until(lambda: not cleaner.in_progress)
        assert len(records(log)) == 20
        assert not cleaner.uncleanable

    play(scene, tmp_path, log_cleaner_io_max_bytes_per_second=1_000_000.0)
