"""A worker process for the kill tests: it owns the schedules until it is killed, and writes down what it runs."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import replace

from logqueue_consumers.worker import run_worker

from logqueue import App, JobContext
from logqueue.jobs.headers import NOT_BEFORE
from logqueue.jobs.settings import Settings
from logqueue.jobs.times import parse_time
from tests.consumers.conftest import FAST


def make_app(name: str, settings: Settings, side_file: str) -> App:
    app = App(name, settings=settings)
    app.queue("q", order="none", partitions=2)
    side = os.open(side_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @app.job("late", queue="q")
    async def late(ctx: JobContext) -> None:
        is_early = parse_time(ctx.headers[NOT_BEFORE].decode()) > time.time() * 1000
        os.write(side, f"{'early ' if is_early else ''}{ctx.job_id}\n".encode())

    @app.job("tick", queue="q")
    async def tick(ctx: JobContext) -> None:
        os.write(side, f"{ctx.job_id}\n".encode())

    app.schedule("ticks", job=tick, cron="* * * * * *", missed="all")
    return app


async def main(bootstrap: str, name: str, side_file: str, cache_dir: str) -> None:
    settings = Settings(bootstrap=bootstrap, topic_prefix=f"{name}.", cache_dir=cache_dir)
    app = make_app(name, settings, side_file)
    # A static member of the app's group; the keepers' group is left to its session timeout.
    limits = replace(FAST, memory_retry_delay_s=0.35)
    await run_worker(app, settings=settings, limits=limits, instance_id=f"{name}-1", on_ready=lambda _: print("ready"))


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    asyncio.run(main(*sys.argv[1:]))
