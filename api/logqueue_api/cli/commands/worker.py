"""Run an app's jobs: one process, many jobs at once. SIGTERM or Ctrl-C drains; a second one ends at once.

Start as many as you like, on any machine that reaches the log: they share the queues as one consumer group.
`logqueue worker ls` lists those that run, wherever they run.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from logqueue_api.cli.app_loading import load_app
from logqueue_api.cli.arguments import count, port, processes, seconds
from logqueue_api.cli.exits import ExitCode, UsageError
from logqueue_api.cli.serving import add_serving, begin

if TYPE_CHECKING:
    from logqueue_consumers.metrics import WorkerMetrics
    from logqueue_consumers.worker import Worker

    from logqueue.jobs.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("app", metavar="APP", help="module:name or file.py[:name]; `ls` lists workers")
    parser.add_argument(
        "--processes",
        type=processes,
        default=1,
        metavar="N|auto",
        help="worker processes; auto: one for each processor (1)",
    )
    parser.add_argument("-q", "--queue", action="append", metavar="Q", help="only this queue (repeatable; all)")
    parser.add_argument("-c", "--concurrency", type=count, metavar="N", help="jobs at once (100)")
    parser.add_argument("--drain-timeout", type=seconds, metavar="T", help="for running jobs at a stop (25s)")
    parser.add_argument(
        "--instance-id", metavar="ID", help="static member of the group: restarted under it, it takes over at once"
    )
    parser.add_argument(
        "--leave",
        action="store_true",
        help="a static member that leaves its group at a stop: it will not come back soon",
    )
    parser.add_argument(
        "--isolated", type=count, metavar="N", help='processes for handlers with isolation="process" (the processors)'
    )
    parser.add_argument("--health-port", type=port, metavar="P", help="answer GET /healthz there: 503 when stuck")
    parser.add_argument("--health-file", type=Path, metavar="FILE", help="rewritten while healthy, removed when not")
    add_serving(parser)


def run(options: argparse.Namespace) -> int:
    if options.leave and options.instance_id is None:
        raise UsageError("--leave is for a static member", hint="--instance-id ID makes it one")
    stack, output = begin(options)
    if options.processes > 1:
        from logqueue_api.cli.worker_group import run_group

        return run_group(options, stack, output)
    app = load_app(options.app)

    import uvloop
    from logqueue_consumers.limits import WorkerLimits
    from logqueue_consumers.worker import Health, run_worker

    from logqueue.jobs.settings import load_settings

    settings = load_settings(bootstrap=stack.bootstrap)
    app.configure(settings)  # what a handler sends goes to the same log

    def on_ready(worker: Worker) -> None:
        metrics = worker.metrics()
        output.event(
            {"event": "ready", "group": metrics.group, "worker": metrics.worker, "partitions": metrics.partitions},
            f"logqueue worker ready: group {metrics.group}, {metrics.partitions} partitions, log {stack.bootstrap}",
        )

    async def work() -> WorkerMetrics:
        metrics = await run_worker(
            app,
            settings=settings,
            queues=options.queue,
            concurrency=options.concurrency,
            drain_timeout=options.drain_timeout,
            instance_id=options.instance_id,
            on_ready=on_ready,
            limits=WorkerLimits() if options.isolated is None else WorkerLimits(isolated_processes=options.isolated),
            health=Health(port=options.health_port, file=options.health_file),
        )
        if options.leave:
            await _leave(settings, group=app.group, instance_id=options.instance_id)
        return metrics

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        metrics = runner.run(work())
    counts = {"succeeded": metrics.succeeded, "dead": metrics.dead, "retried": metrics.retried}
    done = ", ".join(f"{count} {name}" for name, count in (counts | {"interrupted": metrics.interrupted}).items())
    output.event({"event": "stopped", **asdict(metrics)}, f"logqueue worker stopped: {done}")
    return ExitCode.OK


async def _leave(settings: Settings, *, group: str, instance_id: str) -> None:
    from logqueue_api.cli.static_member import NotLeft, leave

    try:
        await leave(settings, group=group, instance_id=instance_id)
    except NotLeft as error:
        # The work is done and committed; what is left is a wait for whoever takes the partitions over.
        print(f"logqueue: {error}; its partitions wait for the session timeout", file=sys.stderr)
