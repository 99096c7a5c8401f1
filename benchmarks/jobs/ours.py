"""logqueue as one of the queues under comparison: `logqueue up` with worker processes beside it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from benchmarks import stack
from benchmarks.clients import Sender, create_topic
from benchmarks.jobs.app import QUEUE
from benchmarks.jobs.worker import Worker
from logqueue.jobs.topics import JOBS_PARTITIONS

APP = "benchmarks.jobs.app:app"
TENANTS = 100


def worker(bootstrap: str, env: Mapping[str, str], *, concurrency: int, app: str = APP) -> Worker:
    """Start a worker process of an app on a log, mostly of the comparisons'."""
    command = [*stack.COMMAND, "worker", app, "--concurrency", str(concurrency)]
    return Worker(command, ready="ready", env={**env, "LOGQUEUE_BOOTSTRAP": bootstrap})


class Ours:
    """Jobs go in through the Kafka protocol, as a producer in any language would send them."""

    def __init__(
        self,
        up: stack.Running,
        env: Mapping[str, str],
        *,
        app: str = APP,
        queue: str = QUEUE,
        partitions: int = JOBS_PARTITIONS,
        tenants: int = TENANTS,
        is_new: bool = True,
    ) -> None:
        """Creates the topic of the queue where `is_new`."""
        self.up = up
        self._app = app
        self._queue = queue
        self._tenants = tenants
        self._env = env
        self._sender = Sender(up.bootstrap)
        if is_new:
            create_topic(up.bootstrap, f"jobs.{queue}", partitions)

    def enqueue(self, jobs: int, *, ms: int = 0, first: int = 0, tenant: str | None = None) -> float:
        began = time.perf_counter()
        topic, put = f"jobs.{self._queue}", self._sender.put
        for number in range(first, first + jobs):
            put(topic, b'{"number":%d,"ms":%d}' % (number, ms), tenant or f"tenant-{number % self._tenants}")
        self._sender.finish()
        return time.perf_counter() - began

    def worker(self, *, concurrency: int) -> Worker:
        return worker(self.up.bootstrap, self._env, concurrency=concurrency, app=self._app)

    def finished(self) -> int:
        return self.up.counts(self._queue).get("succeeded", 0)

    def known(self) -> int:
        """Jobs in the view, whatever their state."""
        return sum(self.up.counts(self._queue).values())
