"""SAQ on Redis: jobs and results in Redis, one asyncio worker."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from saq import Queue

from benchmarks.jobs import work
from benchmarks.peers.driver import URL, python_module, serve

CONCURRENCY = "LOGQUEUE_BENCH_CONCURRENCY"
TOGETHER = 500


async def wait(_: Any, *, number: int, ms: int) -> int:
    """The job."""
    return await work.wait_async(number, ms)


queue = Queue.from_url(os.environ[URL])
settings = {"queue": queue, "functions": [wait], "concurrency": int(os.environ.get(CONCURRENCY, "10"))}


def main() -> None:
    loop = asyncio.new_event_loop()
    entered = 0

    async def send(first: int, jobs: int, ms: int) -> None:
        for start in range(first, first + jobs, TOGETHER):
            numbers = range(start, min(start + TOGETHER, first + jobs))
            await asyncio.gather(*(queue.enqueue("wait", number=number, ms=ms) for number in numbers))

    def enqueue(first: int, jobs: int, ms: int) -> float:
        nonlocal entered
        began = time.perf_counter()
        loop.run_until_complete(send(first, jobs, ms))
        entered += jobs
        return time.perf_counter() - began

    def worker(concurrency: int) -> tuple[list[str], str]:
        module = f"{__spec__.name}.settings"
        return ["env", f"{CONCURRENCY}={concurrency}", *python_module("saq", "-v", module)], "Worker starting"

    def finished() -> int:
        return entered - int(loop.run_until_complete(queue.count("incomplete")))

    serve({"enqueue": enqueue, "worker": worker, "finished": finished})


if __name__ == "__main__":
    main()
