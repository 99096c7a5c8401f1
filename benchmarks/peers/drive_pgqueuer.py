"""PgQueuer on PostgreSQL with fsync: one asyncio worker; its log of jobs is kept, without results."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from benchmarks.jobs import work
from benchmarks.peers.driver import URL, batches, python_module, seldom, serve

MAX_BATCH = 100


async def work_off(concurrency: int) -> None:
    """The worker. Started from here: with its defaults the command line of version 1.6 ends in an AttributeError."""
    connection = await asyncpg.connect(os.environ[URL])
    queue = PgQueuer.from_asyncpg_connection(connection)
    # It takes room for two batches at least, of jobs that run or wait here. With batches of half the concurrency it
    # would have a quarter less done, so whole ones are taken, and no more run at once than with everybody else.
    running = asyncio.Semaphore(concurrency)

    @queue.entrypoint("wait")
    async def wait(job: Job) -> None:
        async with running:
            await work.wait_async(**json.loads(job.payload or b"{}"))

    print("worker is ready", flush=True)
    await queue.run(batch_size=min(MAX_BATCH, concurrency), max_concurrent_tasks=2 * concurrency)


def main() -> None:
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(os.environ[URL]))
    queries = Queries.from_asyncpg_connection(connection)
    loop.run_until_complete(queries.install())
    entered = 0

    def enqueue(first: int, jobs: int, ms: int) -> float:
        nonlocal entered
        began = time.perf_counter()
        for numbers in batches(first, jobs):
            payloads = [b'{"number":%d,"ms":%d}' % (number, ms) for number in numbers]
            loop.run_until_complete(queries.enqueue(["wait"] * len(payloads), payloads, [0] * len(payloads)))
        entered += jobs
        return time.perf_counter() - began

    def worker(concurrency: int) -> tuple[list[str], str]:
        return python_module("benchmarks.peers.drive_pgqueuer", "worker", str(concurrency)), "worker is ready"

    def finished() -> int:
        # A job that has ended moves from the queue's table to that of the log.
        return entered - int(loop.run_until_complete(connection.fetchval("SELECT count(*) FROM pgqueuer")))

    serve({"enqueue": enqueue, "worker": worker, "finished": seldom(finished)})


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        asyncio.run(work_off(int(sys.argv[2])))
    else:
        main()
