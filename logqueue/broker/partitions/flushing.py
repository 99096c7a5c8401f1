"""Threads that wait for the disk: the partitions of a round are flushed side by side. Knows no request and no loop.

File systems put the changes of several files into one commit of their journal if the fsyncs come at the same time.
Where a thread has several, the bytes of all are on their way before it waits for the first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter

from logqueue.broker.partitions.partition import Partition
from logqueue.errors import ErrorCode, KafkaError
from logqueue.storage.errors import DiskFull, UnknownTopic
from logqueue.storage.journal import Frame, SyncJournal
from logqueue.storage.log import PartitionLog

log = logging.getLogger("logqueue.broker.partitions.flushing")

MAX_THREADS = 8
FEWEST_THREADS = 4
QUICK_SECONDS = 0.0003
"""A quick disk, where an fsync takes less, is asked by as few threads as that, or as are needed for no more than two
files each. Eight small files (ext4): 0.60 ms and 0.25 ms of processor time in one thread, 0.36 and 0.29 in four, 0.39
and 0.34 in eight; with other work on both processors 2.9 ms in one, 0.5 in four, since each wait ends in a queue."""

MEMORY = 8
"""What an fsync takes is a mean of about as many rounds."""

_NAME = "logqueue-fsync"

Part = Frame | PartitionLog


class StorageFailed(KafkaError):
    """The disk refused a flush: nothing that is not known to be durable is ever acknowledged again."""

    code = ErrorCode.KAFKA_STORAGE_ERROR
    is_passing = False  # whether it may succeed later: the disk is full


class FlushThreads:
    """One round after the other; the threads are made when they are first needed."""

    def __init__(
        self,
        on_flushed: Callable[[StorageFailed | None, float], None],
        journal: SyncJournal | None = None,
        *,
        limit: int = MAX_THREADS,
        is_steady: bool = True,
    ) -> None:
        """`on_flushed` is called in a thread after every round: why nothing is promised, or None; seconds it took.

        Unless the disk `is_steady`, a round has as many threads as it can use.
        """
        assert limit >= 1
        self._on_flushed = on_flushed
        self._journal = journal
        self._limit = limit
        self._is_steady = is_steady
        self._file_seconds = 2 * QUICK_SECONDS  # of one fsync, lately
        self._threads: list[threading.Thread] = []
        self._rounds: SimpleQueue[list[Part] | None] = SimpleQueue()
        self._shares: SimpleQueue[list[Part] | None] = SimpleQueue()  # parts of a round, for the other threads
        self._results: SimpleQueue[StorageFailed | None] = SimpleQueue()

    def parts_of(self, dirty: list[Partition]) -> list[Part]:
        """What has to be made durable, each part by one sync or so: what the journal takes, then the other logs."""
        logs = [partition.log for partition in dirty]
        if self._journal is None:
            return [*logs]
        try:
            frame = self._journal.take(logs)
        except Exception:  # a bug must not take the round along
            log.exception("the journal failed in an unforeseen way; please report this")
            frame = None
        return [*logs] if frame is None else [frame, *(each for each in logs if each not in frame.claims)]

    def flush(self, parts: list[Part]) -> bool:
        """Flush these after those of the rounds before; False where no thread can be had for it."""
        if not self._threads and not self._start(self._serve_rounds):
            return False
        self._rounds.put(parts)
        return True

    @property
    def is_quick(self) -> bool:
        """Whether the next fsync should take less than QUICK_SECONDS, by what one took lately."""
        return self._is_steady and self._file_seconds < QUICK_SECONDS

    def flush_here(self, parts: list[Part]) -> tuple[StorageFailed | None, float]:
        """Flush in the caller's thread, while no round is under way: why nothing is promised, seconds it took."""
        started = perf_counter()
        failure = self._flush_round(parts, threads=1)
        return failure, perf_counter() - started

    def close(self) -> None:
        """End the threads after the rounds they have, and wait for them."""
        if not self._threads:
            return
        self._rounds.put(None)
        self._threads[0].join()
        for _ in self._threads[1:]:
            self._shares.put(None)
        for thread in self._threads[1:]:
            thread.join()
        self._threads.clear()

    def _start(self, target: Callable[[], None]) -> bool:
        """Start one more thread; False if the system has none left, which may pass."""
        thread = threading.Thread(target=target, name=_NAME, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            log.warning("fsyncs go on with %d threads: %s", len(self._threads), error)
            return False
        self._threads.append(thread)
        return True

    def _serve_rounds(self) -> None:
        while (parts := self._rounds.get()) is not None:
            started = perf_counter()
            failure = self._flush_round(parts, threads=self._threads_for(len(parts)))
            self._on_flushed(failure, perf_counter() - started)

    def _threads_for(self, count: int) -> int:
        most = min(count, self._limit)
        return min(most, max(FEWEST_THREADS, count // 2)) if self.is_quick else most

    def _flush_round(self, parts: list[Part], *, threads: int) -> StorageFailed | None:
        if not parts:
            return None
        while len(self._threads) < threads > 1 and self._start(self._serve_shares):
            pass
        threads = max(1, min(threads, len(self._threads)))
        if len(parts) > threads:
            for part in parts:
                if not isinstance(part, Frame):
                    part.start_flush()
        for number in range(1, threads):
            self._shares.put(parts[number::threads])
        started = perf_counter()
        failure = _flush(share := parts[::threads])
        self._note_time((perf_counter() - started) / len(share))
        for _ in range(1, threads):
            other = self._results.get()
            if other is not None and (failure is None or failure.is_passing):
                failure = other
        return failure

    def _note_time(self, file_seconds: float) -> None:
        self._file_seconds += (file_seconds - self._file_seconds) / MEMORY

    def _serve_shares(self) -> None:
        while (share := self._shares.get()) is not None:
            self._results.put(_flush(share))


def _flush(parts: list[Part]) -> StorageFailed | None:
    """Flush one after the other; the worst of what went wrong."""
    failure: StorageFailed | None = None
    for part in parts:
        try:
            part.flush()
        except UnknownTopic:
            continue  # deleted meanwhile: there is nothing left to promise
        except DiskFull as error:
            failure = StorageFailed(error.detail)
            failure.is_passing = True
        except KafkaError as error:
            return StorageFailed(error.detail)
        except Exception:  # a bug: whoever waits is told, instead of waiting for a thread that is gone
            log.exception("a flush failed in an unforeseen way; please report this")
            return StorageFailed("flushing failed in an unforeseen way; the broker's log says more")
    return failure
