"""Finds the job that ends its worker's process, without slowing anybody else down. No IO.

A worker that is killed, by a job or otherwise, leaves commits with a bookmark and no word of farewell. Who takes such a
partition over watches it until everything is finished that the dead worker may have had in hand:

| step                                                             | costs                                       |
|------------------------------------------------------------------|---------------------------------------------|
| a worker ends without a word                                      | nothing: nobody knew                         |
| its partitions are watched: a job starts only after a commit has  | one commit for many jobs, a few milliseconds |
| named it (at most `MAX_NAMED` of a partition at once)             |                                             |
| the next worker ends too: the named jobs are suspects, each runs   | a pause of this worker while they run, each  |
| alone in its process                                              | at most `alone_s` long                      |
| a worker ends while one runs alone: that one did it; after         |                                             |
| `Retry(crashes=)` such ends it is dead                            |                                             |

A suspect that lives through its run is acquitted, so a job that ends its process is found after two further ends, and
jobs that ran beside it are not blamed. One that a limit or a pause holds back is not waited for, and proves nothing; it
gives its name to a job that could start, so nobody waits behind it.
While a job that runs for long lets none be alone, suspects wait and the others go on, with a try every `alone_s`.
Ends that no job caused (a machine that lost power, `kill -9` of an operator) cost a watched worker a commit per round
for a while, and nothing else. Partitions that are given up in good order are not watched.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from logqueue.jobs.errors import ErrorClass
from logqueue_consumers.commits.notes import MAX_NAMED, CommitNotes, Mark, Named

if TYPE_CHECKING:
    from logqueue_consumers.dispatch.dispatcher import Dispatcher
    from logqueue_consumers.job import Job
    from logqueue_consumers.partitions.partition import OwnedPartition


class WorkerCrashed(Exception):
    """Recorded for a job that ended its worker's process; never raised."""

    error_class = ErrorClass.CRASH


class Watch:
    """One watched partition: what is known of its jobs, and the jobs that wait to be named."""

    __slots__ = ("crashes", "known", "suspects", "until", "waiting")

    def __init__(self, until: int, known: Iterable[Named]) -> None:
        self.until = until
        """Watched while an offset below this one is unfinished."""
        self.known = {job.offset: job for job in known}
        self.waiting: deque[Job] = deque()
        self.suspects: deque[Job] = deque()
        """Jobs that are ready and have to run alone."""
        self.crashes: dict[int, int] = {}
        """Of jobs that lost their names: they are as suspect when they are named again."""

    def name(self, job: Job) -> None:
        """The job may be running."""
        self.known[job.offset] = Named(job.offset, self.crashes.pop(job.offset, 0), Mark.NAMED)

    def unname(self, job: Job) -> None:
        """The job has not started: commits say nothing of it."""
        known = self.known.pop(job.offset, None)
        if known is not None and known.crashes:
            self.crashes[job.offset] = known.crashes


def watch_for(notes: CommitNotes, *, base: int, end: int) -> Watch | None:
    """The watch of a partition that was taken over with these notes; None when there is no reason for one.

    Work goes on at `base`; what the worker before had in hand lies below `end`.
    """
    known = []
    for job in notes.named:
        if job.offset < base:
            continue
        if job.mark in (Mark.SUSPECT, Mark.PROVEN):
            known.append(job)
        elif notes.has_crashed:
            mark = Mark.PROVEN if job.mark is Mark.ALONE else Mark.SUSPECT
            known.append(Named(job.offset, job.crashes + 1, mark))
    return Watch(end, known) if known or (notes.has_crashed and base < end) else None


class CrashWatch:
    """All watched partitions of a worker. `is_on` is the only thing that an ordinary job ever costs."""

    def __init__(self, ready: deque[Job] | Dispatcher) -> None:
        self.is_on = False
        self.wanted = asyncio.Event()
        """Set when jobs wait to be named."""
        self.ready = ready
        self._partitions: set[OwnedPartition] = set()
        self._is_paused = False
        self._paused: deque[Job] = deque()
        self._named: set[Job] = set()
        """A commit that names them is on its way. Those that a rebalance takes are read again, and not given out."""

    def add(self, partition: OwnedPartition) -> None:
        """Work on a partition begins; does nothing unless it is to be watched."""
        if partition.watch is not None:
            self._partitions.add(partition)
            self.is_on = True

    def discard(self, partition: OwnedPartition) -> None:
        """The partition is gone."""
        self._partitions.discard(partition)
        self._update()

    def drop_stopping(self) -> None:
        """Forget the jobs of partitions where none starts any more."""
        for partition in self._partitions:
            if partition.watch is not None and partition.is_stopping:
                partition.watch.waiting.clear()
                partition.watch.suspects.clear()
        self._paused = deque(job for job in self._paused if not job.partition.is_stopping)
        self._named = {job for job in self._named if not job.partition.is_stopping}

    def withdraw(self, is_gone: Callable[[Job], bool]) -> list[Job]:
        """Remove and return the waiting jobs for which `is_gone` holds: cancelled ones need not be run alone first."""
        gone: list[Job] = []

        def without(jobs: deque[Job]) -> deque[Job]:
            ending = [job for job in jobs if is_gone(job)]
            gone.extend(ending)
            return deque(job for job in jobs if job not in ending) if ending else jobs

        for partition in self._partitions:
            if (watch := partition.watch) is not None:
                watch.waiting, watch.suspects = without(watch.waiting), without(watch.suspects)
        self._paused = without(self._paused)
        return gone

    # --- jobs that could start ---

    def verdict(self, job: Job) -> WorkerCrashed | None:
        """Why the job must not run again, if that is so."""
        watch = job.partition.watch
        known = watch.known.get(job.offset) if watch is not None else None
        if known is None or known.mark is not Mark.PROVEN:
            return None
        assert job.definition is not None, "only a job with a handler is ready"
        if known.crashes < job.definition.retry.policy.crashes:
            return None
        return WorkerCrashed(
            f"{known.crashes} worker process{'es' if known.crashes > 1 else ''} ended while this job ran, the last with"
            " no other job beside it"
        )

    def hold(self, job: Job) -> None:
        """A job is ready: it starts, or waits to be named."""
        watch = job.partition.watch
        if watch is None:
            self._hand_on([job])
            return
        known = watch.known.get(job.offset)
        is_suspect = known is not None and known.mark in (Mark.SUSPECT, Mark.PROVEN)
        if is_suspect:
            watch.suspects.append(job)
        else:
            watch.unname(job)  # a gate was asked again about it, after it was named
            watch.waiting.append(job)
        self.wanted.set()

    def has_waiting(self) -> bool:
        """Whether jobs wait to be named."""
        return any(partition.watch is not None and partition.watch.waiting for partition in self._partitions)

    def admit(self, is_blocked: Callable[[Job], bool] | None = None) -> list[Job]:
        """Name as many jobs as commits can; they start (`release`) once the commit is in the log.

        `is_blocked` tells which ones a limit or a pause holds back: these come last, and lose their names where others
        need them.
        """
        jobs: list[Job] = []
        for partition in self._partitions:
            if (watch := partition.watch) is not None and watch.waiting and not partition.is_stopping:
                jobs += self._admit(watch, is_blocked)
        self._named.update(jobs)
        return jobs

    def _admit(self, watch: Watch, is_blocked: Callable[[Job], bool] | None) -> list[Job]:
        seen: list[Job] = []
        able: list[Job] = []
        held: list[Job] = []
        while watch.waiting and len(able) < MAX_NAMED:
            job = watch.waiting.popleft()
            seen.append(job)
            (able if is_blocked is None or not is_blocked(job) else held).append(job)
        lacking = len(able) - (MAX_NAMED - len(watch.known))
        taken = self._take_names(watch, is_blocked, lacking) if lacking > 0 and is_blocked is not None else []
        named = [*able, *held][: max(0, MAX_NAMED - len(watch.known))]
        for job in named:
            watch.name(job)
        gone = set(named)
        watch.waiting.extendleft(job for job in reversed([*taken, *seen]) if job not in gone)
        return named

    def _take_names(self, watch: Watch, is_blocked: Callable[[Job], bool], count: int) -> list[Job]:
        """Take so many names of ready jobs that are held back by now, and the jobs out of the ready ones."""
        blocked = [job for job in self.ready if job.partition.watch is watch and is_blocked(job)][-count:]
        if blocked:
            gone = set(blocked)
            ready = [job for job in self.ready if job not in gone]
            self.ready.clear()
            self.ready.extend(ready)
        for job in blocked:
            watch.unname(job)
        return blocked

    def release(self, jobs: Collection[Job]) -> None:
        """The commit that names these jobs is in the log."""
        self.ready.extend(self._still(jobs))

    def take_back(self, jobs: Collection[Job]) -> None:
        """The commit that names these jobs failed: they wait for the next, or go on where nothing is watched by now."""
        still = self._still(jobs)
        for job in reversed(still):
            if (watch := job.partition.watch) is not None:
                watch.unname(job)
                watch.waiting.appendleft(job)
        self._hand_on(job for job in still if job.partition.watch is None)
        self.wanted.set()

    def _still(self, jobs: Collection[Job]) -> list[Job]:
        """The commit that names these jobs is over: those that are still to be given out."""
        still = [job for job in jobs if job in self._named and not job.partition.is_stopping]
        self._named.difference_update(jobs)
        return still

    # --- suspects ---

    @property
    def suspect_count(self) -> int:
        """Jobs that have to run alone and wait for that."""
        return sum(len(partition.watch.suspects) for partition in self._partitions if partition.watch is not None)

    def has_suspects(self) -> bool:
        """Whether a job has to run alone."""
        return self.suspect_count > 0

    def pause(self) -> None:
        """Nothing starts from now on; what was named and has not started is named no more."""
        self._is_paused = True
        ready = list(self.ready)
        self.ready.clear()
        for job in reversed(ready):
            watch = job.partition.watch
            if watch is not None:
                watch.unname(job)
            (watch.waiting if watch is not None else self._paused).appendleft(job)

    def next_suspect(self, *, is_alone: bool) -> Job | None:
        """Name the next suspect; None when there is none left. `is_alone` when no other job runs."""
        for partition in self._partitions:
            watch = partition.watch
            if watch is not None and watch.suspects and not partition.is_stopping:
                job = watch.suspects.popleft()
                crashes = watch.known[job.offset].crashes
                watch.known[job.offset] = Named(job.offset, crashes, Mark.ALONE if is_alone else Mark.NAMED)
                self._named.add(job)
                return job
        return None

    def let_wait(self, job: Job) -> None:
        """A suspect cannot start now: it will run beside others, and is suspected no less."""
        known = job.partition.watch.known if job.partition.watch is not None else {}
        if job.offset in known:
            known[job.offset] = known[job.offset]._replace(mark=Mark.NAMED)

    def acquit(self, job: Job) -> None:
        """A suspect lived through its run, or has run alone for long enough."""
        watch = job.partition.watch
        if watch is not None and job.offset in watch.known:
            watch.name(job)

    def suspect_again(self, job: Job) -> None:
        """The commit that names a suspect failed: it waits for the next, or goes on where nothing is watched by now."""
        if not self._still([job]):
            return
        watch = job.partition.watch
        if watch is None:
            self._hand_on([job])
        else:
            known = watch.known[job.offset]
            watch.known[job.offset] = Named(job.offset, known.crashes, Mark.SUSPECT)
            watch.suspects.appendleft(job)
            self.wanted.set()

    def resume(self) -> None:
        """The others go on."""
        self._is_paused = False
        self.ready.extend(self._paused)
        self._paused.clear()
        self.wanted.set()
        self._update()

    # --- what has happened ---

    def waits(self, job: Job) -> None:
        """The job's attempt is over, and another is due later: until then it does not run."""
        if job.partition.watch is not None:
            job.partition.watch.known.pop(job.offset, None)

    def finished(self, partition: OwnedPartition, offsets: Iterable[int]) -> None:
        """These jobs' outcomes are durable."""
        watch = partition.watch
        if watch is None:
            return
        for offset in offsets:
            watch.known.pop(offset, None)
            watch.crashes.pop(offset, None)
        base = partition.window.commit_offset()
        if base < watch.until:
            if watch.waiting:
                self.wanted.set()
            return
        if any(job.offset >= base and job.mark is not Mark.NAMED for job in watch.known.values()):
            return
        partition.watch = None
        self._partitions.discard(partition)
        self._hand_on(watch.waiting)
        self._update()

    def _hand_on(self, jobs: Iterable[Job]) -> None:
        """These jobs need no naming (any more)."""
        (self._paused if self._is_paused else self.ready).extend(jobs)

    def _update(self) -> None:
        self.is_on = bool(self._partitions) or self._is_paused


def named_in(watch: Watch | None, *, base: int, is_last: bool) -> list[Named]:
    """What a commit at `base` says of a partition's jobs; the last one of a worker names none as running."""
    if watch is None:
        return []
    running = (Mark.NAMED, Mark.ALONE)
    return [job for job in watch.known.values() if job.offset >= base and not (is_last and job.mark in running)]
