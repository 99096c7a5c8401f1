"""A worker process for the kill tests: a workflow of many nodes in layers, each waiting for two of the layer before."""

from __future__ import annotations

import asyncio
import os
import sys

from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.worker import run_worker

from logqueue import App
from logqueue.jobs.flows import Workflow
from logqueue.jobs.settings import Settings

LAYERS = 8
WIDTH = 12
QUEUE = "layers"
LIMITS = WorkerLimits(session_timeout_ms=6_000, heartbeat_interval_ms=200, commit_interval_s=0.05)


def make_app(name: str, settings: Settings, side_file: str) -> App:
    app = App(name, settings=settings)
    app.queue(QUEUE, partitions=2, order="none")
    side = os.open(side_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @app.job("sum", queue=QUEUE)
    async def add_up(ctx, *, n: int) -> int:  # type: ignore[no-untyped-def]
        os.write(side, f"{ctx.job_id}\n".encode())
        await asyncio.sleep(0.02)
        return n + sum(ctx.results.values())

    return app


def layered(app: App) -> Workflow:
    """Node `l-i` comes after `l-1-i` and `l-1-(i+1)`; every node adds 1 to what those found."""
    job, flow = app.jobs["sum"], app.workflow("layers")
    for layer in range(LAYERS):
        for place in range(WIDTH):
            before = [f"{layer - 1}-{place}", f"{layer - 1}-{(place + 1) % WIDTH}"] if layer else []
            flow.add(f"{layer}-{place}", job.prepare(n=1), after=before)
    return flow


async def main(bootstrap: str, name: str, side_file: str, cache: str) -> None:
    settings = Settings(bootstrap=bootstrap, topic_prefix=f"{name}.", cache_dir=cache)
    app = make_app(name, settings, side_file)
    await run_worker(app, settings=settings, limits=LIMITS, instance_id=f"{name}-1")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
