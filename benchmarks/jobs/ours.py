"""logqueue as one of the queues under comparison: `logqueue up` with worker processes beside it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import Producer

from benchmarks import stack
from benchmarks.clients import QUIET, create_topic
from benchmarks.jobs.app import QUEUE
from benchmarks.jobs.worker import Worker
from logqueue.jobs.topics import JOBS_PARTITIONS

TENANTS = 100
FLUSH_SECONDS = 120


class Ours:
    """Jobs go in through the Kafka protocol, as a producer in any language would send them."""

    def __init__(
        self,
        up: stack.Running,
        env: Mapping[str, str],
        *,
        queue: str = QUEUE,
        partitions: int = JOBS_PARTITIONS,
        tenants: int = TENANTS,
        is_new: bool = True,
    ) -> None:
        """Creates the topic of the queue where `is_new`."""
        self.up = up
        self._queue = queue
        self._tenants = tenants
        self._env = {**env, "LOGQUEUE_BOOTSTRAP": up.bootstrap}
        self._producer = Producer(
            {
                "bootstrap.servers": up.bootstrap,
                "acks": "all",
                "linger.ms": 5,
                "partitioner": "murmur2_random",
                "log_level": QUIET,
            }
        )
        if is_new:
            create_topic(up.bootstrap, f"jobs.{queue}", partitions)

    def enqueue(self, jobs: int, *, ms: int = 0, first: int = 0, tenant: str | None = None) -> float:
        began = time.perf_counter()
        producer = self._producer
        for number in range(first, first + jobs):
            value = b'{"number":%d,"ms":%d}' % (number, ms)
            while True:
                try:
                    key = tenant or f"tenant-{number % self._tenants}"
                    producer.produce(f"jobs.{self._queue}", key=key, value=value)
                    break
                except BufferError:
                    producer.poll(0.01)
        if left := producer.flush(FLUSH_SECONDS):
            raise RuntimeError(f"{left} jobs were not acknowledged")
        return time.perf_counter() - began

    def worker(self, *, concurrency: int) -> Worker:
        command = [*stack.COMMAND, "worker", "benchmarks.jobs.app:app", "--concurrency", str(concurrency)]
        return Worker(command, ready="ready", env=self._env)

    def finished(self) -> int:
        return self.up.counts(self._queue).get("succeeded", 0)

    def known(self) -> int:
        """Jobs in the view, whatever their state."""
        return sum(self.up.counts(self._queue).values())
