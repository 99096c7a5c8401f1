"""RQ on Redis: jobs and results in Redis; a SimpleWorker, which does not fork and runs one job at a time."""

from __future__ import annotations

import os
import time

from redis import Redis
from rq import Queue
from rq.registry import FinishedJobRegistry

from benchmarks.jobs import work
from benchmarks.peers.driver import URL, batches, python_module, serve


def main() -> None:
    connection = Redis.from_url(os.environ[URL])
    queue = Queue("bench", connection=connection)
    ended = FinishedJobRegistry(queue=queue)

    def enqueue(first: int, jobs: int, ms: int) -> float:
        began = time.perf_counter()
        for numbers in batches(first, jobs):
            queue.enqueue_many(
                [Queue.prepare_data(work.wait, args=(number, ms), result_ttl=3600) for number in numbers]
            )
        return time.perf_counter() - began

    def worker(_: int) -> tuple[list[str], str]:
        options = ("worker", "--url", os.environ[URL], "-w", "rq.worker.SimpleWorker", "bench")
        return python_module("rq.cli", *options), "Listening on"

    def finished() -> int:
        return int(connection.zcard(ended.key))  # the registry's own count would also clean it

    serve({"enqueue": enqueue, "worker": worker, "finished": finished})


if __name__ == "__main__":
    main()
