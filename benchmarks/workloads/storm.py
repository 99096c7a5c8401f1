"""When 30 % of the jobs fail twice before they succeed, how long until all have succeeded, and what does it cost?

The waits are 100 ms each, so the least it can take is 0.2 s.
"""

from __future__ import annotations

import time

from benchmarks import stack
from benchmarks.jobs import queues
from benchmarks.jobs.app import FLAKY_QUEUE, SHARE_THAT_FAILS
from benchmarks.jobs.ours import Ours
from benchmarks.report import Figures, Settings

SETTINGS: Settings = {"jobs": 20_000, "concurrency": 100, "limit_seconds": 300}


def run(settings: Settings) -> Figures:
    """Enqueue, start a worker, and wait until the view shows every job as succeeded."""
    jobs, limit = int(settings["jobs"]), int(settings["limit_seconds"])
    with stack.everything() as up:
        ours = Ours(up, {}, queue=FLAKY_QUEUE)
        ours.enqueue(jobs)
        worker = ours.worker(concurrency=int(settings["concurrency"]))
        try:
            began, before = time.perf_counter(), ours.finished()
            if not queues.wait_until(lambda: ours.finished() >= jobs, limit_seconds=limit):
                raise RuntimeError(f"{ours.finished()} of {jobs} jobs succeeded within {limit} s")
            took, used = time.perf_counter() - began, worker.cpu_seconds()
        finally:
            worker.end()
    attempts = jobs * (1 + 2 * SHARE_THAT_FAILS)
    return {
        "s until all succeeded": took,
        "jobs/s": (jobs - before) / took,
        "worker CPU us/attempt": used / attempts * 1e6,
    }
