"""When 30 % of the jobs fail twice before they succeed, how long until all have succeeded, and what does it cost?

The waits are 100 ms each, so the least it can take is 0.2 s.
"""

from __future__ import annotations

from benchmarks import stack
from benchmarks.jobs import flaky, queues
from benchmarks.jobs.ours import Ours
from benchmarks.report import Figures, Settings

SETTINGS: Settings = {"jobs": 20_000, "concurrency": 100, "limit_seconds": 300}


def run(settings: Settings) -> Figures:
    """Enqueue, start a worker, and wait until the view shows every job as succeeded."""
    jobs, limit = int(settings["jobs"]), int(settings["limit_seconds"])
    with stack.everything() as up:
        ours = Ours(up, {}, app=flaky.APP, queue=flaky.QUEUE)
        ours.enqueue(jobs)
        drained = queues.drain(ours, jobs, concurrency=int(settings["concurrency"]), limit_seconds=limit)
    attempts = drained.jobs * (1 + flaky.FAILURES * flaky.SHARE_THAT_FAILS)
    return {
        "s until all succeeded": drained.seconds,
        "jobs/s": drained.jobs_per_second,
        "worker CPU us/attempt": drained.cpu_seconds / attempts * 1e6,
    }
