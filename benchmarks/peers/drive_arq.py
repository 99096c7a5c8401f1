"""arq on Redis: jobs and results in Redis, one asyncio worker. It has no bulk call: requests are sent together."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.jobs import work
from benchmarks.peers.driver import URL, python_module, serve

MAX_JOBS = "LOGQUEUE_BENCH_MAX_JOBS"
TOGETHER = 500


async def wait(_: dict[str, Any], number: int, ms: int) -> int:
    """The job."""
    return await work.wait_async(number, ms)


class WorkerSettings:
    """What `arq` reads."""

    functions: ClassVar[list[Any]] = [wait]
    redis_settings = RedisSettings.from_dsn(os.environ[URL])
    max_jobs = int(os.environ.get(MAX_JOBS, "10"))


def main() -> None:
    loop = asyncio.new_event_loop()
    pool = loop.run_until_complete(create_pool(WorkerSettings.redis_settings))
    entered = 0

    async def send(first: int, jobs: int, ms: int) -> None:
        for start in range(first, first + jobs, TOGETHER):
            numbers = range(start, min(start + TOGETHER, first + jobs))
            await asyncio.gather(*(pool.enqueue_job("wait", number, ms) for number in numbers))

    def enqueue(first: int, jobs: int, ms: int) -> float:
        nonlocal entered
        began = time.perf_counter()
        loop.run_until_complete(send(first, jobs, ms))
        entered += jobs
        return time.perf_counter() - began

    def worker(concurrency: int) -> tuple[list[str], str]:
        settings = f"{__spec__.name}.WorkerSettings"
        return ["env", f"{MAX_JOBS}={concurrency}", *python_module("arq", settings)], "Starting worker"

    def finished() -> int:
        # A job leaves the queue in the transaction that stores its result.
        return entered - int(loop.run_until_complete(pool.zcard("arq:queue")))

    serve({"enqueue": enqueue, "worker": worker, "finished": finished})


if __name__ == "__main__":
    main()
