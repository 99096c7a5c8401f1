"""How many pre-enqueued no-op jobs/s does one worker process end with nothing else running but the log, and no view?

Statuses are in the log at the end, and the group has committed every job. Counted from the worker's ready line.
"""

from __future__ import annotations

import time

from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from benchmarks import noop, stack
from benchmarks.clients import QUIET, create_topic
from benchmarks.jobs import queues
from benchmarks.report import Figures, Settings
from benchmarks.workloads.drain import TOPIC, enqueue
from logqueue.jobs.settings import DEFAULT_PROCESSING
from logqueue.jobs.topics import JOBS_PARTITIONS

SETTINGS: Settings = {"jobs": 300_000, "processing": DEFAULT_PROCESSING, "limit_seconds": 300}
POLL_SECONDS = 0.02


def run(settings: Settings) -> Figures:
    """Enqueue, then start the worker and ask the log for its commits."""
    jobs = int(settings["jobs"])
    with stack.broker() as (broker, bootstrap):
        create_topic(bootstrap, TOPIC, JOBS_PARTITIONS)
        enqueue(bootstrap, jobs)
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": QUIET})
        worker = stack.worker(bootstrap, str(settings["processing"]))
        try:
            worker.wait_for("ready")
            began, before, cpu = time.perf_counter(), _committed(admin), worker.cpu_seconds()
            broker_cpu = broker.cpu_seconds()
            queues.check_watched(before, jobs)
            while (done := _committed(admin)) < jobs:
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


def _committed(admin: AdminClient) -> int:
    """Jobs below the group's positions: the topic has one record for each, and no markers."""
    wanted = ConsumerGroupTopicPartitions(noop.app.group)
    (answer,) = admin.list_consumer_group_offsets([wanted]).values()
    found = answer.result(timeout=30).topic_partitions
    return sum(max(0, each.offset) for each in found if each.topic == TOPIC)
