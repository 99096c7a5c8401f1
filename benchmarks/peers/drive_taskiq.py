"""Taskiq on Redis streams, which keep a job until it is acknowledged; results in a Redis database of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from redis import Redis
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.jobs import work
from benchmarks.peers.driver import RESULTS, URL, AsyncSender, python_module, serve

RESULT_SECONDS = 30
POLL_SECONDS = 0.002
"""Between two looks for a result: the default of 0.2 s would be all that is measured."""

broker = RedisStreamBroker(url=os.environ[URL]).with_result_backend(
    RedisAsyncResultBackend(redis_url=os.environ[RESULTS], result_ex_time=3600)
)


@broker.task(task_name="wait")
async def wait(number: int, ms: int) -> int:
    """The job."""
    return await work.wait_async(number, ms)


def main() -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(broker.startup())
    results = Redis.from_url(os.environ[RESULTS])

    async def send(number: int, ms: int) -> Callable[[], Awaitable[object]]:
        task = await wait.kiq(number, ms)
        return lambda: task.wait_result(check_interval=POLL_SECONDS, timeout=RESULT_SECONDS)

    def worker(concurrency: int) -> tuple[list[str], str]:
        options = ("--workers", "1", "--max-async-tasks", str(concurrency))
        return python_module("taskiq", "worker", "benchmarks.peers.drive_taskiq:broker", *options), "Listening started"

    def finished() -> int:
        return int(results.dbsize())

    sender = AsyncSender(loop, send)
    serve({"enqueue": sender.enqueue, "worker": worker, "finished": finished, "latency": sender.latency})


if __name__ == "__main__":
    main()
