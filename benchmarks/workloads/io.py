"""How many jobs that wait 50 ms does one worker end in a second, at 100 at once (2,000 would be ideal)?"""

from __future__ import annotations

from benchmarks import stack
from benchmarks.jobs import queues
from benchmarks.report import Figures, Settings

SETTINGS: Settings = {"jobs": 2_000, "ms": 50, "concurrency": 100, "order": "none", "limit_seconds": 300}
PEERS = queues.PEERS


def run(settings: Settings, queue: str = queues.OURS) -> Figures:
    """Enqueue, start a worker, and wait until every end is stored."""
    jobs, concurrency, limit = (int(settings[name]) for name in ("jobs", "concurrency", "limit_seconds"))
    with queues.running(queue, env=stack.worker_env(settings)) as running:
        running.enqueue(jobs, ms=int(settings["ms"]))
        return {"jobs/s": queues.drain(running, jobs, concurrency=concurrency, limit_seconds=limit).jobs_per_second}
