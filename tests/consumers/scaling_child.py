"""A worker process for the scaling test: every run of a handler leaves a line in a side file."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace

from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.worker import run_worker

from logqueue import App
from logqueue.jobs.settings import Settings

JOB_S = 0.1
LIMITS = WorkerLimits(session_timeout_ms=6_000, heartbeat_interval_ms=300, revoke_grace_s=5.0)


def make_app(name: str, settings: Settings, side_file: str) -> App:
    app = App(name, settings=settings)
    app.queue("load", partitions=8)
    side = os.open(side_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @app.job("work", queue="load")
    async def work(*, n: int) -> int:
        os.write(side, b"start %d %d\n" % (n, os.getpid()))
        await asyncio.sleep(JOB_S)
        os.write(side, b"end %d %d\n" % (n, os.getpid()))
        return n

    return app


async def main(bootstrap: str, name: str, side_file: str, instance_id: str | None = None) -> None:
    settings = Settings(
        bootstrap=bootstrap, topic_prefix=f"{name}.", processing=os.environ.get("LOGQUEUE_TEST_PROCESSING")
    )
    app = make_app(name, settings, side_file)
    result = await run_worker(
        app,
        settings=settings,
        # A static member's place is kept for the session timeout: the next under its id must not wait for that.
        limits=LIMITS if instance_id is None else replace(LIMITS, session_timeout_ms=120_000),
        on_ready=lambda _: print("ready", flush=True),
        concurrency=100,
        instance_id=instance_id,
    )
    print("stopped", result.succeeded, result.interrupted, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
