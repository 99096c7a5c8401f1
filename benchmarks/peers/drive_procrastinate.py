"""Procrastinate on PostgreSQL with fsync: one asyncio worker; jobs stay in their table with their status."""

from __future__ import annotations

import os
import time

import procrastinate
import psycopg

from benchmarks.jobs import work
from benchmarks.peers.driver import URL, batches, python_module, seldom, serve

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ[URL]),
    import_paths=["benchmarks.peers.drive_procrastinate"],
)


@app.task(name="wait")
async def wait(number: int, ms: int) -> int:
    """The job."""
    return await work.wait_async(number, ms)


def main() -> None:
    connection = psycopg.connect(os.environ[URL], autocommit=True)
    app.open()
    app.schema_manager.apply_schema()

    def enqueue(first: int, jobs: int, ms: int) -> float:
        began = time.perf_counter()
        for numbers in batches(first, jobs):
            app.configure_task("wait").batch_defer(*({"number": number, "ms": ms} for number in numbers))
        return time.perf_counter() - began

    def worker(concurrency: int) -> tuple[list[str], str]:
        options = ("worker", "--concurrency", str(concurrency))
        return python_module(
            "procrastinate", "--app", "benchmarks.peers.drive_procrastinate.app", *options
        ), "Starting worker"

    def finished() -> int:
        (count,) = connection.execute("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'").fetchone()
        return int(count)

    serve({"enqueue": enqueue, "worker": worker, "finished": seldom(finished)})


if __name__ == "__main__":
    main()
