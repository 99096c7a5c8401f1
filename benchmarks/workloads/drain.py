"""How many pre-enqueued no-op jobs/s does one worker process drain, every status in the view at the end?

Peers run the same job with one worker and store its result; those on Redis keep no append-only file, and so promise
less.
"""

from __future__ import annotations

import time

from confluent_kafka import Producer

from benchmarks import noop, stack
from benchmarks.clients import QUIET, create_topic
from benchmarks.jobs import queues
from benchmarks.report import Figures, InvalidSetting, Settings
from logqueue.jobs.settings import DEFAULT_PROCESSING
from logqueue.jobs.topics import JOBS_PARTITIONS

SETTINGS: Settings = {"jobs": 100_000, "workers": 1, "processing": DEFAULT_PROCESSING, "peer_concurrency": 100}
PEERS = queues.PEERS
TOPIC = f"jobs.{noop.QUEUE}"
DRAINED = "drain jobs/s (view complete)"
POLL_SECONDS = 0.02
LIMIT_SECONDS = 300


def run(settings: Settings, queue: str = queues.OURS) -> Figures:
    """Enqueue through the Kafka protocol as a foreign producer would, wait for the view, then start the workers."""
    jobs, count, processing = int(settings["jobs"]), int(settings["workers"]), str(settings["processing"])
    if queue != queues.OURS:
        if count != 1:
            raise InvalidSetting(f"workers={count}: a peer drains with one worker process, so ours has to")
        return _drain_peer(queue, jobs, concurrency=int(settings["peer_concurrency"]))
    with stack.everything() as running:
        create_topic(running.bootstrap, TOPIC, JOBS_PARTITIONS)
        enqueue_seconds = enqueue(running.bootstrap, jobs)
        _wait_until(running, lambda counts: counts.get("queued", 0) == jobs)
        workers = [stack.worker(running.bootstrap, processing) for _ in range(count)]
        try:
            for worker in workers:
                worker.wait_for("ready")
            began = time.perf_counter()
            done_before = running.counts(noop.QUEUE).get("succeeded", 0)
            queues.check_watched(done_before, jobs)
            _wait_until(running, lambda counts: counts.get("succeeded", 0) == jobs)
            took = time.perf_counter() - began
            cpu = sum(worker.cpu_seconds() for worker in workers)
        finally:
            for worker in workers:
                worker.end()
    return {
        DRAINED: (jobs - done_before) / took,
        "worker CPU us/job": cpu / jobs * 1e6,
        "enqueue jobs/s (confluent-kafka)": jobs / enqueue_seconds,
    }


def _drain_peer(queue: str, jobs: int, *, concurrency: int) -> Figures:
    with queues.running(queue) as running:
        running.enqueue(jobs)
        drained = queues.drain(running, jobs, concurrency=concurrency, limit_seconds=LIMIT_SECONDS)
        return {DRAINED: drained.jobs_per_second}


def enqueue(bootstrap: str, jobs: int) -> float:
    """Put no-op jobs in as a foreign producer does, all durable; the seconds that it took."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "log_level": QUIET,
            "acks": "all",
            "linger.ms": 5,
            "partitioner": "murmur2_random",
        }
    )
    began = time.perf_counter()
    for number in range(jobs):
        tenant = f"tenant-{number % noop.TENANTS}"
        while True:
            try:
                producer.produce(TOPIC, key=tenant, value=b'{"number":%d}' % number)
                break
            except BufferError:
                producer.poll(0.01)
    if left := producer.flush(120):
        raise RuntimeError(f"{left} jobs were not acknowledged")
    return time.perf_counter() - began


def _wait_until(running: stack.Running, is_reached: stack.CountsTest) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not is_reached(counts := running.counts(noop.QUEUE)):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not reached within {LIMIT_SECONDS} s: {counts}")
        time.sleep(POLL_SECONDS)
