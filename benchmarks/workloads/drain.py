"""How many pre-enqueued jobs/s that do nothing does one worker process end, the result of each in the view?

Counted from the worker's ready line, with all jobs shown as queued before it starts. Peers run the same job with one
worker and store its result; those on Redis keep no append-only file, and so promise less. Ours keeps the order of each
of 100 tenants, as a queue does that says nothing else (`--set order=none` has none to keep, as theirs).
"""

from __future__ import annotations

from benchmarks import stack
from benchmarks.jobs import queues
from benchmarks.report import Figures, Settings
from logqueue.jobs.settings import DEFAULT_PROCESSING

SETTINGS: Settings = {
    "jobs": 100_000,
    "workers": 1,
    "processing": DEFAULT_PROCESSING,
    "concurrency": 100,
    "order": "tenant",
}
PEERS = queues.PEERS
LIMIT_SECONDS = 300


def run(settings: Settings, queue: str = queues.OURS) -> Figures:
    """Enqueue, through the Kafka protocol as a foreign producer would with ours, then start the workers."""
    jobs, concurrency = int(settings["jobs"]), int(settings["concurrency"])
    with queues.running(queue, env=stack.worker_env(settings)) as running:
        enqueue_seconds = running.enqueue(jobs)
        drained = queues.drain(
            running, jobs, concurrency=concurrency, workers=int(settings["workers"]), limit_seconds=LIMIT_SECONDS
        )
    return {
        "drain jobs/s": drained.jobs_per_second,
        "worker CPU us/job": drained.cpu_us_per_job,
        "enqueue jobs/s": jobs / enqueue_seconds,
    }
