"""Huey on Redis: jobs and results in Redis, one consumer process with threads."""

from __future__ import annotations

import os
import time

from huey import RedisHuey

from benchmarks.jobs import work
from benchmarks.peers.driver import URL, python_module, serve

huey = RedisHuey("bench", url=os.environ[URL])


@huey.task()
def wait(number: int, ms: int) -> int:
    """The job."""
    return work.wait(number, ms)


def main() -> None:
    from benchmarks.peers import drive_huey as own  # the name under which the consumer finds the task

    def enqueue(first: int, jobs: int, ms: int) -> float:
        began = time.perf_counter()
        for number in range(first, first + jobs):
            own.wait(number, ms)
        return time.perf_counter() - began

    def worker(concurrency: int) -> tuple[list[str], str]:
        options = ("-w", str(concurrency), "-k", "thread")
        return python_module("huey.bin.huey_consumer", "benchmarks.peers.drive_huey.huey", *options), "consumer started"

    def finished() -> int:
        return int(own.huey.result_count())

    serve({"enqueue": enqueue, "worker": worker, "finished": finished})


if __name__ == "__main__":
    main()
