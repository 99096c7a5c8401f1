"""The threads of group commit: partitions side by side, rounds one after the other, the worst failure for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import pytest

from logqueue.broker.partitions.flushing import FEWEST_THREADS, MEMORY, FlushThreads, Part, StorageFailed
from logqueue.storage.errors import DiskFull, StorageError, UnknownTopic
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create, produced

TIMEOUT_SECONDS = 20
Reports = SimpleQueue[StorageFailed | None]


class Dirty:
    """A log with something to flush."""

    def __init__(self, flush: Callable[[], object]) -> None:
        self.flush = flush
        self.is_on_its_way = False

    def start_flush(self) -> None:
        self.is_on_its_way = True


def parts(*flushes: Callable[[], object]) -> list[Part]:
    return [cast(Part, Dirty(flush)) for flush in flushes]


def raising(error: Exception) -> Callable[[], None]:
    def flush() -> None:
        raise error

    return flush


def fine() -> None:
    pass


def run(flushes: list[Callable[[], Any]], *, limit: int = 4) -> StorageFailed | None:
    """What is told of one round."""
    reports: Reports = SimpleQueue()
    threads = FlushThreads(lambda failure, _: reports.put(failure), limit=limit)
    threads.flush(parts(*flushes))
    failure = reports.get(timeout=TIMEOUT_SECONDS)
    threads.close()
    return failure


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_partitions_of_a_round_are_flushed_side_by_side(count: int) -> None:
    together = threading.Barrier(count)
    assert run([lambda: together.wait(TIMEOUT_SECONDS)] * count) is None


def test_no_more_threads_flush_at_once_than_the_limit() -> None:
    together, seen, lock = threading.Barrier(2), set[int](), threading.Lock()

    def flush() -> None:
        together.wait(TIMEOUT_SECONDS)
        with lock:
            seen.add(threading.get_ident())

    assert run([flush] * 6, limit=2) is None
    assert len(seen) == 2


@pytest.mark.parametrize("place", range(6))
def test_a_round_fails_whichever_partition_it_is(place: int) -> None:
    flushes: list[Callable[[], None]] = [fine] * 6
    flushes[place] = raising(StorageError("the disk is gone"))
    failure = run(flushes)
    assert failure is not None
    assert failure.detail == "the disk is gone"
    assert not failure.is_passing


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_failure_that_stays_outweighs_a_full_disk(limit: int, is_first: bool) -> None:
    flushes = [raising(StorageError("gone")), raising(DiskFull("full"))]
    failure = run(flushes if is_first else flushes[::-1], limit=limit)
    assert failure is not None
    assert not failure.is_passing


def test_a_full_disk_may_pass() -> None:
    failure = run([fine, raising(DiskFull("full")), fine])
    assert failure is not None
    assert failure.is_passing


def test_a_partition_that_was_deleted_meanwhile_fails_nothing() -> None:
    assert run([raising(UnknownTopic("deleted")), fine]) is None


@pytest.mark.parametrize("place", [0, 1])
def test_a_bug_in_a_flush_is_told_to_those_who_wait(place: int, caplog: pytest.LogCaptureFixture) -> None:
    flushes: list[Callable[[], None]] = [fine, fine]
    flushes[place] = raising(ZeroDivisionError("a bug"))
    failure = run(flushes)
    assert failure is not None
    assert not failure.is_passing
    assert "a flush failed in an unforeseen way" in caplog.text


def test_all_bytes_of_a_round_are_on_their_way_before_the_first_fsync() -> None:
    round_: list[Part] = []
    seen: list[bool] = []
    round_ += parts(*[lambda: seen.extend(cast(Dirty, each).is_on_its_way for each in round_)] * 3)
    threads = FlushThreads(lambda _, __: None)
    assert threads.flush_here(round_)[0] is None
    assert seen == [True] * 9


def threads_of_a_round(threads: FlushThreads, reports: Reports, flush: Callable[[], None], *, count: int) -> int:
    seen: set[int] = set()

    def noted() -> None:
        flush()
        seen.add(threading.get_ident())

    threads.flush(parts(*[noted] * count))
    reports.get(timeout=TIMEOUT_SECONDS)
    return len(seen)


def test_a_quick_disk_is_asked_by_few_threads_and_a_slow_one_by_many() -> None:
    reports: Reports = SimpleQueue()
    threads = FlushThreads(lambda failure, _: reports.put(failure))
    together = threading.Barrier(8)
    for _ in range(10 * MEMORY):
        threads_of_a_round(threads, reports, fine, count=1)
    assert threads.is_quick
    assert threads_of_a_round(threads, reports, fine, count=8) <= FEWEST_THREADS
    for _ in range(MEMORY):
        threads_of_a_round(threads, reports, lambda: time.sleep(0.002), count=1)
    assert not threads.is_quick
    assert threads_of_a_round(threads, reports, lambda: cast(None, together.wait(TIMEOUT_SECONDS)), count=8) == 8
    threads.close()


def test_where_nothing_is_learnt_from_one_fsync_for_the_next_each_has_its_thread() -> None:
    reports: Reports = SimpleQueue()
    threads = FlushThreads(lambda failure, _: reports.put(failure), is_steady=False)
    together = threading.Barrier(8)
    for _ in range(10 * MEMORY):
        threads_of_a_round(threads, reports, fine, count=1)
    assert not threads.is_quick
    assert threads_of_a_round(threads, reports, lambda: cast(None, together.wait(TIMEOUT_SECONDS)), count=8) == 8
    threads.close()


def test_a_failure_in_the_callers_thread_is_answered() -> None:
    threads = FlushThreads(lambda _, __: None)
    failure, seconds = threads.flush_here(parts(fine, raising(StorageError("gone")), fine))
    assert failure is not None
    assert failure.detail == "gone"
    assert seconds > 0


def refuse(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_without_a_thread_the_caller_flushes_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = FlushThreads(lambda _, __: None)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not threads.flush(parts(fine, fine))
    assert threads.flush_here(parts(fine, fine))[0] is None
    threads.close()


def test_a_round_has_the_threads_that_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    reports: Reports = SimpleQueue()
    threads = FlushThreads(lambda failure, _: reports.put(failure))
    assert threads_of_a_round(threads, reports, fine, count=1) == 1
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert threads_of_a_round(threads, reports, fine, count=4) == 1
    together = threading.Barrier(4)
    assert threads_of_a_round(threads, reports, lambda: cast(None, together.wait(TIMEOUT_SECONDS)), count=4) == 4
    threads.close()


def test_an_ack_does_not_wait_for_a_thread_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedBroker(tmp_path) as broker, Wire(broker.bootstrap) as wire:
        create(wire, "t")
        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert produced(wire, "t", batch(b"by the loop itself")).error_code == 0


def test_rounds_are_told_in_order_and_closing_waits_for_them() -> None:
    order: list[int] = []
    gate = threading.Event()
    threads = FlushThreads(lambda _, __: order.append(-1))
    threads.flush(parts(lambda: gate.wait(TIMEOUT_SECONDS), lambda: gate.wait(TIMEOUT_SECONDS)))
    threads.flush(parts(lambda: order.append(2)))
    gate.set()
    threads.close()
    assert order == [-1, 2, -1]


def test_threads_that_were_never_needed_need_no_end() -> None:
    FlushThreads(lambda _, __: None).close()
