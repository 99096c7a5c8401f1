"""Group commit: one fsync of a partition serves every request that waits for it at that moment. Knows no request.

Requests join the round that is collecting. Threads flush the dirty partitions of one round after the other; while they
work the next round collects. Where the disk is quick and nobody else is there the loop waits for it itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from logqueue.broker.deadlines import Deadlines
from logqueue.broker.metrics.meters import Histogram
from logqueue.broker.partitions.flushing import MAX_THREADS, FlushThreads, StorageFailed
from logqueue.broker.partitions.gathering import Gathering
from logqueue.broker.partitions.in_loop import InLoop
from logqueue.broker.partitions.partition import Partition
from logqueue.config import LONG_MAX
from logqueue.errors import KafkaError
from logqueue.storage.journal import SyncJournal

log = logging.getLogger("logqueue.broker.partitions.group_commit")


RETRY_SECONDS = 1.0  # between two tries of what a full disk has refused


class Round:
    """The requests and partitions that one pass of the disk serves."""

    __slots__ = ("callbacks", "held_from")

    def __init__(self) -> None:
        self.held_from: dict[Partition, int | None] = {}  # first hidden offset; None: flushed without a promise
        self.callbacks: list[Callable[[KafkaError | None], None]] = []


class GroupCommit:
    """Rounds of flushes. After a failed one the storage refuses every further append and flush (fail-stop)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
        journal: SyncJournal | None = None,
        *,
        after_round: Callable[[], None],
        gathering: Gathering | None = None,
        is_steady: bool = True,
        threads: int = MAX_THREADS,
    ) -> None:
        """`after_round` is called once the requests of a round are answered; it has to call `start_round`.

        Unless the disk `is_steady`, each partition has a thread of its own, up to `threads`.
        """
        self._has_failed = False
        self._is_closed = False
        self._loop = loop
        self._deadlines = deadlines
        self._after_round = after_round
        self.fsync_times = Histogram()  # one entry for each round
        self._collecting = Round()
        self._flushing: Round | None = None
        self._gathering = gathering or Gathering()
        self._gather_due: GatherDue | None = None
        self._in_loop = InLoop()
        self._threads = FlushThreads(self._report, journal, limit=threads, is_steady=is_steady)

    def settle(self, partition: Partition, base_offset: int, end_offset: int, size: int, durable: bool) -> bool:
        """Decide what becomes of a batch just appended: True if its answer has to wait for the collecting round.

        With `durable` it stays hidden until it is on the disk; otherwise it shows at once, and `flush.messages` and
        `flush.ms` of its topic say whether and when it is flushed. Batches sent again settle like new ones.
        """
        partition.bytes_in += size
        if durable:
            if end_offset <= partition.log.durable_offset and end_offset <= partition.high_watermark:
                return False  # a flush beside the rounds is not enough: the round shows what it has made durable
            partition.hold(base_offset, size)
            if self._collecting.held_from.get(partition) is None:
                self._collecting.held_from[partition] = base_offset
            return True
        partition.appended(size)
        config = partition.config
        if config.flush_messages != LONG_MAX:
            log_ = partition.log
            if log_.log_end_offset - log_.durable_offset >= config.flush_messages:
                self.flush(partition)
                return True
        if config.flush_ms != LONG_MAX and partition.flush_due is None:
            partition.flush_due = due = FlushDue(self, partition)
            self._deadlines.push(self._loop.time() + config.flush_ms / 1000, due)
        return False

    def show(self, partition: Partition, size: int) -> None:
        """Show a batch just appended, unless an earlier one waits for the disk, and have the collecting round flush it.

        For what a start writes again should a power cut take it, at the same place, before anything is served.
        """
        partition.bytes_in += size
        partition.appended(size)
        self.flush(partition)

    def flush(self, partition: Partition) -> None:
        """Have the collecting round flush a partition without hiding anything of it."""
        self._collecting.held_from.setdefault(partition, None)

    def on_durable(self, callback: Callable[[KafkaError | None], None]) -> None:
        """Call back when the collecting round is through: with None, or with the reason why nothing is promised."""
        self._collecting.callbacks.append(callback)

    def start_round(self, events: int = 0) -> None:
        """Hand the collecting round to the disk unless another is there; call at the end of a turn of the loop.

        It may wait a moment for those who were answered last; see `gathering`. `events` is how many times somebody was
        served in this turn, see `in_loop`.
        """
        collecting = self._collecting
        if self._in_loop.is_tried:
            self._in_loop.end_turn(events=events, waiting=len(collecting.callbacks))
        if self._flushing is not None or self._is_closed or not (collecting.held_from or collecting.callbacks):
            return
        waiting = len(collecting.callbacks)
        if (due := self._gather_due) is not None:
            if waiting < self._gathering.wanted:
                return
            self._gathering.met()
            due.is_done = True
            self._gather_due = None
        self._flushing, self._collecting = collecting, Round()
        parts = self._threads.parts_of(list(collecting.held_from))
        is_quick = self._threads.is_quick
        is_for_loop = self._in_loop.allows(files=len(parts), is_quick=is_quick, events=events, waiting=waiting)
        # Only their logs go over: whatever the thread held last it would free, the loop waiting for the GIL.
        if is_for_loop or not self._threads.flush(parts):
            failure, seconds = self._threads.flush_here(parts)
            self._in_loop.after_round(seconds)
            self.fsync_times.observe(seconds)
            self._loop.call_soon(self._finish, failure, seconds)

    def stop_gathering(self) -> None:
        """Begin with those who are there."""
        self._gather_due = None
        self._gathering.expire(waiting=len(self._collecting.callbacks))
        self.start_round()

    @property
    def waiting(self) -> int:
        """Requests that wait for the disk."""
        return len(self._collecting.callbacks) + (0 if self._flushing is None else len(self._flushing.callbacks))

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for the disk."""
        return self._flushing is None and not self._collecting.callbacks

    def close(self) -> None:
        """End the threads after the round they are in, and wait for them. No round starts any more."""
        self._is_closed = True
        self._threads.close()

    def _report(self, failure: StorageFailed | None, seconds: float) -> None:
        """Tell the loop that a round is through. A thread calls it."""
        self.fsync_times.observe(seconds)
        self._loop.call_soon_threadsafe(self._finish, failure, seconds)

    def _finish(self, failure: StorageFailed | None, seconds: float) -> None:
        current, self._flushing = self._flushing, None
        assert current is not None
        self._gather(len(current.callbacks), seconds)  # before the answers: one may bring the next request with it
        if failure is not None and failure.is_passing:
            log.error("a round of fsyncs is tried again in %g s: %s", RETRY_SECONDS, failure.detail)
            self._deadlines.push(self._loop.time() + RETRY_SECONDS, FlushAgain(self, list(current.held_from)))
        elif failure is not None and not self._has_failed:
            self._has_failed = True
            log.critical("writes are refused from now on: %s", failure.detail)
        for callback in current.callbacks:
            try:
                callback(failure)
            except Exception:  # a bug in one answer must not take the others along
                log.exception("answering after a flush failed in an unforeseen way; please report this")
        if failure is None:
            following = self._collecting.held_from
            for partition in current.held_from:
                partition.release(following.get(partition))
        self._after_round()

    def _gather(self, answered: int, round_seconds: float) -> None:
        """Have the next round wait for those who were answered, if that pays."""
        waiting = len(self._collecting.callbacks)
        seconds = self._gathering.after_round(answered=answered, waiting=waiting, seconds=round_seconds)
        if seconds:
            self._gather_due = due = GatherDue(self)
            self._deadlines.push(self._loop.time() + seconds, due)


class GatherDue:
    """The next round has waited for long enough."""

    __slots__ = ("_commit", "is_done")

    def __init__(self, commit: GroupCommit) -> None:
        self.is_done = False
        self._commit = commit

    def on_deadline(self) -> None:
        self.is_done = True
        self._commit.stop_gathering()


class FlushDue:
    """A partition whose `flush.ms` is running."""

    __slots__ = ("_commit", "_partition", "is_done")

    def __init__(self, commit: GroupCommit, partition: Partition) -> None:
        self.is_done = False
        self._commit = commit
        self._partition = partition

    def on_deadline(self) -> None:
        self.is_done = True
        self._partition.flush_due = None
        self._commit.flush(self._partition)


class FlushAgain:
    """Partitions whose flush a full disk has refused: nobody is told any more, but their readers still wait."""

    __slots__ = ("_commit", "_partitions", "is_done")

    def __init__(self, commit: GroupCommit, partitions: list[Partition]) -> None:
        self.is_done = False
        self._commit = commit
        self._partitions = partitions

    def on_deadline(self) -> None:
        self.is_done = True
        for partition in self._partitions:
            self._commit.flush(partition)
