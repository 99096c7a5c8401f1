"""The queues under comparison, ours and the peers', behind one face: put jobs in, start workers, count the ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks import stack
from benchmarks.jobs.worker import Worker
from benchmarks.peers import environment
from benchmarks.peers.driver import Driver
from benchmarks.peers.servers import ON_POSTGRES, ON_RABBITMQ, ON_REDIS, servers

OURS = "logqueue"


class Queue(Protocol):
    """One running queue system without workers."""

    def enqueue(self, jobs: int, *, ms: int = 0, first: int = 0) -> float:
        """Put in jobs that wait `ms`, numbered from `first`; the seconds until all are accepted."""
        ...

    def worker(self, *, concurrency: int) -> Worker:
        """Start one worker process; it is ready when this returns."""
        ...

    def known(self) -> int:
        """Jobs that were put in, as far as users can see them already."""
        ...

    def finished(self) -> int:
        """Jobs whose end or result is stored where users look."""
        ...


@contextmanager
def running(name: str, *, notes: Path | None = None, env: Mapping[str, str] | None = None) -> Iterator[Queue]:
    """Start a queue on an empty folder. Jobs note their begins and ends in `notes`; `env` is for workers.

    Raises Missing.
    """
    from benchmarks.jobs import work

    env = {**(env or {}), **({} if notes is None else {work.FILE: str(notes)})}
    if name == OURS:
        from benchmarks.jobs.ours import Ours

        with stack.everything() as up:
            yield Ours(up, env)
        return
    command, packages = environment.driver_command(name)
    with servers(name) as addresses, Driver(command, {**packages, **addresses}) as driver:
        yield Peer(driver, env)


class Peer:
    """A peer: its own process puts jobs in and counts, in an environment of its own."""

    def __init__(self, driver: Driver, env: Mapping[str, str]) -> None:
        self._driver = driver
        self._env = {**driver.env, **env}
        self._entered = 0

    def enqueue(self, jobs: int, *, ms: int = 0, first: int = 0) -> float:
        took = float(self._driver.call("enqueue", first, jobs, ms))
        self._entered += jobs
        return took

    def worker(self, *, concurrency: int) -> Worker:
        command, ready = self._driver.call("worker", concurrency)
        return Worker(command, ready=ready, env=self._env)

    def known(self) -> int:
        return self._entered  # they were accepted where users look for them

    def finished(self) -> int:
        return int(self._driver.call("finished"))

    def latency(self, jobs: int, *, rate: float) -> list[tuple[float, float]]:
        """Submit at a rate: milliseconds until each job was accepted, and its result was with its caller."""
        return [(accepted, ended) for accepted, ended in self._driver.call("latency", jobs, rate)]


PEERS = tuple(sorted(ON_REDIS + ON_POSTGRES + ON_RABBITMQ))
WITH_RESULTS = ("arq", "bullmq", "saq", "taskiq")
"""Peers whose client waits for a single result; their drivers time it."""


POLL_SECONDS = 0.02
"""Between looks at how many jobs have ended: each takes about 2 ms of the two processors from ours."""


def wait_until(is_reached: Callable[[], bool], *, limit_seconds: float, poll_seconds: float = POLL_SECONDS) -> bool:
    """Look again and again; whether it was reached within the limit."""
    deadline = time.monotonic() + limit_seconds
    while not is_reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll_seconds)
    return True


@dataclass(frozen=True, slots=True)
class Drained:
    """What a worker got done while it was watched, and the processor time that it took (without its children's)."""

    jobs: int
    seconds: float
    cpu_seconds: float

    @property
    def jobs_per_second(self) -> float:
        """Ends a second."""
        return self.jobs / self.seconds

    @property
    def cpu_us_per_job(self) -> float:
        """Microseconds of the worker's processor time for a job."""
        return self.cpu_seconds / self.jobs * 1e6


def check_watched(before: int, jobs: int) -> None:
    """RuntimeError if most jobs had ended before anybody watched: what is left says little."""
    if before > jobs / 2:
        raise RuntimeError(f"{before} of {jobs} jobs had ended before the worker was ready: take more jobs")


def wait_until_known(queue: Queue, jobs: int, *, limit_seconds: float) -> None:
    """Wait until users can see so many jobs. Raises RuntimeError if they cannot within the limit."""
    if not wait_until(lambda: queue.known() >= jobs, limit_seconds=limit_seconds):
        raise RuntimeError(f"{queue.known()} of {jobs} jobs were to be seen after {limit_seconds:g} s")


def drain(queue: Queue, jobs: int, *, concurrency: int, limit_seconds: float, workers: int = 1) -> Drained:
    """Start workers once all `jobs` can be seen, and watch from their being ready until all have ended; stop them.

    Raises RuntimeError if they do not get there, or have done most of it before the last one says that it is ready.
    """
    wait_until_known(queue, jobs, limit_seconds=limit_seconds)
    with ExitStack() as ends:
        started = []
        for _ in range(workers):
            started.append(worker := queue.worker(concurrency=concurrency))
            ends.callback(worker.end)

        def cpu() -> float:
            return sum(worker.cpu_seconds() for worker in started)

        began, before, used = time.perf_counter(), queue.finished(), cpu()
        check_watched(before, jobs)
        if not wait_until(lambda: queue.finished() >= jobs, limit_seconds=limit_seconds):
            raise RuntimeError(f"{queue.finished()} of {jobs} jobs ended within {limit_seconds:g} s")
        return Drained(jobs - before, time.perf_counter() - began, cpu() - used)
