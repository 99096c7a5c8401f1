"""Celery on Redis or RabbitMQ, acks_late, results in a Redis database of their own; threads, prefork for two and fewer.

On RabbitMQ messages are persistent and confirmed.
"""

from __future__ import annotations

import os
import time

from celery import Celery
from celery.signals import worker_ready
from redis import Redis

from benchmarks.jobs import work
from benchmarks.peers.driver import AMQP, RESULTS, URL, python_module, serve

PROCESSES_UP_TO = 2

app = Celery("benchmarks.peers.drive_celery", broker=os.environ[URL], backend=os.environ[RESULTS])
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=4)
if os.environ[URL].startswith(AMQP):
    app.conf.broker_transport_options = {"confirm_publish": True}


@app.task(name="wait")
def wait(number: int, ms: int) -> int:
    """The job."""
    return work.wait(number, ms)


@worker_ready.connect
def tell(**_: object) -> None:
    """Say so: with the log level of production it says nothing."""
    print("worker is ready", flush=True)


def main() -> None:
    results = Redis.from_url(os.environ[RESULTS])

    def enqueue(first: int, jobs: int, ms: int) -> float:
        began = time.perf_counter()
        with app.producer_pool.acquire(block=True) as producer:
            for number in range(first, first + jobs):
                wait.apply_async((number, ms), producer=producer)
        return time.perf_counter() - began

    def worker(concurrency: int) -> tuple[list[str], str]:
        pool = "prefork" if concurrency <= PROCESSES_UP_TO else "threads"
        options = ("-A", "benchmarks.peers.drive_celery", "worker", "-c", str(concurrency), "-P", pool, "-l", "WARNING")
        return ["env", "C_FORCE_ROOT=1", *python_module("celery", *options)], "worker is ready"

    def finished() -> int:
        return int(results.dbsize())

    serve({"enqueue": enqueue, "worker": worker, "finished": finished})


if __name__ == "__main__":
    main()
