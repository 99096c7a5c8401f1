"""How many pre-enqueued jobs/s that do nothing does one worker process end beside the log alone, without a view?

Statuses are in the log at the end, and the group has committed every job. Counted from the worker's ready line.
"""

from __future__ import annotations

import time

from benchmarks import stack
from benchmarks.clients import Committed, Sender, create_topic
from benchmarks.jobs import ours, queues
from benchmarks.jobs.app import QUEUE, app
from benchmarks.report import Figures, Settings
from logqueue.jobs.settings import DEFAULT_PROCESSING
from logqueue.jobs.topics import JOBS_PARTITIONS

SETTINGS: Settings = {
    "jobs": 300_000,
    "processing": DEFAULT_PROCESSING,
    "concurrency": 100,
    "order": "tenant",
    "limit_seconds": 300,
}
POLL_SECONDS = 0.02
TOPIC = f"jobs.{QUEUE}"


def run(settings: Settings) -> Figures:
    """Enqueue, then start the worker and ask the log for its commits."""
    jobs = int(settings["jobs"])
    with stack.broker() as (broker, bootstrap):
        create_topic(bootstrap, TOPIC, JOBS_PARTITIONS)
        sender = Sender(bootstrap)
        for number in range(jobs):
            sender.put(TOPIC, b'{"number":%d}' % number, f"tenant-{number % ours.TENANTS}")
        sender.finish()

        done_so_far = Committed(bootstrap, app.group, TOPIC)  # a record for each job, and no markers
        env = stack.worker_env(settings)
        worker = ours.worker(bootstrap, env, concurrency=int(settings["concurrency"]))
        try:
            began, before, cpu = time.perf_counter(), done_so_far(), worker.cpu_seconds()
            broker_cpu = broker.cpu_seconds()
            queues.check_watched(before, jobs)
            while (done := done_so_far()) < jobs:
                if time.perf_counter() - began > int(settings["limit_seconds"]):
                    raise RuntimeError(f"{done} of {jobs} jobs were committed within {settings['limit_seconds']} s")
                time.sleep(POLL_SECONDS)
            took = time.perf_counter() - began
            used, broker_used = worker.cpu_seconds() - cpu, broker.cpu_seconds() - broker_cpu
        finally:
            worker.end()
    return {
        "jobs/s": (jobs - before) / took,
        "worker CPU us/job": used / (jobs - before) * 1e6,
        "broker CPU us/job": broker_used / (jobs - before) * 1e6,
    }
