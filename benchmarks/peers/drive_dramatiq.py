"""Dramatiq on Redis or RabbitMQ, results in a Redis database of their own; one worker process with threads.

On RabbitMQ messages are persistent and confirmed.
"""

from __future__ import annotations

import os
import time

import dramatiq
from dramatiq import Broker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from redis import Redis

from benchmarks.jobs import work
from benchmarks.peers.driver import AMQP, RESULTS, URL, python_module, serve


def broker_of(url: str) -> Broker:
    """The broker that the URL is of; its package is installed only where it is needed."""
    if url.startswith(AMQP):
        from dramatiq.brokers.rabbitmq import RabbitmqBroker

        return RabbitmqBroker(url=url, confirm_delivery=True)
    from dramatiq.brokers.redis import RedisBroker

    return RedisBroker(url=url)


broker = broker_of(os.environ[URL])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ[RESULTS])))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def wait(number: int, ms: int) -> int:
    """The job."""
    return work.wait(number, ms)


def main() -> None:
    results = Redis.from_url(os.environ[RESULTS])

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
