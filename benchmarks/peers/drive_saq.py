"""SAQ on Redis: jobs and results in Redis, one asyncio worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from saq import Queue

from benchmarks.jobs import work
from benchmarks.peers.driver import URL, AsyncSender, python_module, serve

CONCURRENCY = "LOGQUEUE_BENCH_CONCURRENCY"
RESULT_SECONDS = 30
POLL_SECONDS = 0.002


async def wait(_: Any, *, number: int, ms: int) -> int:
    """The job."""
    return await work.wait_async(number, ms)


queue = Queue.from_url(os.environ[URL])
settings = {"queue": queue, "functions": [wait], "concurrency": int(os.environ.get(CONCURRENCY, "10"))}


def main() -> None:
    loop = asyncio.new_event_loop()

    async def send(number: int, ms: int) -> Callable[[], Awaitable[object]]:
        job = await queue.enqueue("wait", number=number, ms=ms)
        assert job is not None

        async def result() -> None:
            # Not by `until_complete`: that waits for a message, which may have come before it listens.
            async with asyncio.timeout(RESULT_SECONDS):
                while not job.completed:
                    await asyncio.sleep(POLL_SECONDS)
                    await job.refresh()

        return result

    def worker(concurrency: int) -> tuple[list[str], str]:
        module = f"{__spec__.name}.settings"
        return ["env", f"{CONCURRENCY}={concurrency}", *python_module("saq", "-v", module)], "Worker starting"

    def finished() -> int:
        return sender.entered - int(loop.run_until_complete(queue.count("incomplete")))

    sender = AsyncSender(loop, send)
    serve({"enqueue": sender.enqueue, "worker": worker, "finished": finished, "latency": sender.latency})


if __name__ == "__main__":
    main()
