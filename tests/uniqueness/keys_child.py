"""A worker process for the kill test of idempotency keys: every run leaves a line."""

from __future__ import annotations

import asyncio
import os
import sys

from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.worker import run_worker

from logqueue import App
from logqueue.jobs.settings import Settings

QUEUE = "keyed"
LIMITS = WorkerLimits(concurrency=8, session_timeout_ms=30_000, heartbeat_interval_ms=200, commit_interval_s=0.2)


def make_app(name: str, settings: Settings, side_file: str) -> App:
    app = App(name, settings=settings)
    app.queue(QUEUE, partitions=2, order="none")
    side = os.open(side_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @app.job("work", queue=QUEUE)
    async def work(*, n: int) -> int:
        os.write(side, b"%d\n" % n)
        await asyncio.sleep(0.01)
        return n

    return app


async def main(bootstrap: str, name: str, side_file: str, cache: str) -> None:
    settings = Settings(bootstrap=bootstrap, topic_prefix=f"{name}.", cache_dir=cache)
    app = make_app(name, settings, side_file)
    # A static member: the next under its name need not wait for the session timeout.
    await run_worker(app, settings=settings, limits=LIMITS, instance_id=f"{name}-1")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
