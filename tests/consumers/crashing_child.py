"""A worker process for the crash tests: some jobs end it as a segmentation fault or the kernel's OOM killer would."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.worker import run_worker

from logqueue import App, Retry
from logqueue.jobs.settings import Settings

CRASHES = 2
QUEUE = "risky"
LIMITS = WorkerLimits(session_timeout_ms=30_000, heartbeat_interval_ms=200, commit_interval_s=0.05)


def make_app(name: str, settings: Settings, side_file: str) -> App:
    app = App(name, settings=settings)
    app.queue(QUEUE, partitions=2, order="none")
    side = os.open(side_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @app.job("work", queue=QUEUE, retry=Retry(crashes=CRASHES))
    async def work(*, n: int, is_poison: bool) -> int:
        os.write(side, b"%d\n" % n)
        await asyncio.sleep(0.02)  # its neighbours run beside it when it goes
        if is_poison:
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    return app


async def main(bootstrap: str, name: str, side_file: str) -> None:
    settings = Settings(
        bootstrap=bootstrap, topic_prefix=f"{name}.", processing=os.environ.get("LOGQUEUE_TEST_PROCESSING")
    )
    app = make_app(name, settings, side_file)
    # A static member: the next under its name need not wait for the session timeout.
    await run_worker(app, settings=settings, limits=LIMITS, instance_id=f"{name}-1")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
