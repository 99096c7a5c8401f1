"""A worker process that processes exactly once and can be told to freeze itself in the middle of a transaction.

Every run of a handler leaves a line in a side file, and sends a follow-up job. While the file `<side>.freeze` holds
the name of a request, the process stops itself (SIGSTOP) before it sends that one, and removes the file.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.transactions import opening
from logqueue_consumers.transactions.wire import LogClient
from logqueue_consumers.worker import run_worker

from logqueue import App
from logqueue.jobs.context import JobContext
from logqueue.jobs.settings import EXACTLY_ONCE, Settings
from logqueue.protocol.schema import Message

PARTITIONS = 4
JOB_S = 0.03
LIMITS = WorkerLimits(session_timeout_ms=6_000, heartbeat_interval_ms=200, revoke_grace_s=1.0, commit_interval_s=0.1)


class FreezingClient(LogClient):
    """Stops its process before the request that the file names."""

    def __init__(self, settings: Settings, freeze: Path) -> None:
        super().__init__(settings)
        self._freeze = freeze

    async def ask_coordinator(self, kind: int, key: str, message: Message, *, lowest: int, highest: int) -> Any:
        if self._freeze.exists() and self._freeze.read_text() == type(message).__name__:
            self._freeze.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
        return await super().ask_coordinator(kind, key, message, lowest=lowest, highest=highest)

    def leads_and_coordinates(self, partitions: Iterable[TopicPartition], kind: int, key: str) -> int | None:
        """Nobody: records are written while the process stands still before the offsets."""
        return None


def make_app(name: str, settings: Settings, side: Path) -> App:
    app = App(name, settings=settings, processing=EXACTLY_ONCE)
    app.queue("first", order="tenant", partitions=PARTITIONS)
    app.queue("next", order="none", partitions=PARTITIONS)
    lines = os.open(side, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @app.job("follow", queue="next")
    async def follow(*, n: int) -> int:
        return n

    @app.job("work", queue="first")
    async def work(ctx: JobContext, *, n: int) -> int:
        os.write(lines, b"%d %d\n" % (n, os.getpid()))
        await asyncio.sleep(JOB_S)
        ctx.send(follow.prepare(tenant=ctx.tenant, n=n))
        return n

    return app


async def main(bootstrap: str, name: str, side: str, queue: str, instance_id: str | None = None) -> None:
    settings = Settings(bootstrap=bootstrap, topic_prefix=f"{name}.")
    freeze = Path(f"{side}.freeze")
    opening.LogClient = lambda given: FreezingClient(given, freeze)  # type: ignore[assignment, misc]
    app = make_app(name, settings, Path(side))
    await run_worker(
        app,
        settings=settings,
        limits=LIMITS,
        queues=None if queue == "all" else [queue],
        on_ready=lambda _: print("ready", flush=True),
        instance_id=instance_id,
    )
    print("stopped", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
