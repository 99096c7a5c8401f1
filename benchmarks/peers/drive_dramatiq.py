"""Dramatiq on Redis, results in a Redis database of their own; one worker process with threads."""

from __future__ import annotations

import os
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from redis import Redis

from benchmarks.jobs import work
from benchmarks.peers.driver import URL, python_module, serve

RESULTS = os.environ[URL][:-1] + "1"

broker = RedisBroker(url=os.environ[URL])
broker.add_middleware(Results(backend=RedisBackend(url=RESULTS)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def wait(number: int, ms: int) -> int:
    """The job."""
    return work.wait(number, ms)


def main() -> None:
    results = Redis.from_url(RESULTS)

    def enqueue(first: int, jobs: int, ms: int) -> float:
        began = time.perf_counter()
        for number in range(first, first + jobs):
            wait.send(number, ms)
        return time.perf_counter() - began

    def worker(concurrency: int) -> tuple[list[str], str]:
        options = ("benchmarks.peers.drive_dramatiq", "--processes", "1", "--threads", str(concurrency))
        return python_module("dramatiq", *options), "ready for action"

    def finished() -> int:
        return int(results.dbsize())

    serve({"enqueue": enqueue, "worker": worker, "finished": finished})


if __name__ == "__main__":
    main()
