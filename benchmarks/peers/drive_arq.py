"""arq on Redis: jobs and results in Redis, one asyncio worker. It has no bulk call: requests are sent together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.jobs import work
from benchmarks.peers.driver import URL, AsyncSender, python_module, serve

MAX_JOBS = "LOGQUEUE_BENCH_MAX_JOBS"
RESULT_SECONDS = 30
POLL_SECONDS = 0.002
"""Between two looks for a result: the default of half a second would be all that is measured."""


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

    async def send(number: int, ms: int) -> Callable[[], Awaitable[object]]:
        job = await pool.enqueue_job("wait", number, ms)
        assert job is not None
        return lambda: job.result(timeout=RESULT_SECONDS, poll_delay=POLL_SECONDS)

    def worker(concurrency: int) -> tuple[list[str], str]:
        settings = f"{__spec__.name}.WorkerSettings"
        return ["env", f"{MAX_JOBS}={concurrency}", *python_module("arq", settings)], "Starting worker"

    def finished() -> int:
        # A job leaves the queue in the transaction that stores its result.
        return sender.entered - int(loop.run_until_complete(pool.zcard("arq:queue")))

    sender = AsyncSender(loop, send)
    serve({"enqueue": sender.enqueue, "worker": worker, "finished": finished, "latency": sender.latency})


if __name__ == "__main__":
    main()
