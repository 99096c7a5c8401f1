"""Start everything on this machine: the log, the API with dashboard, workers for APP, and one screen that shows it.

Ctrl-C drains and stops everything; the same command continues where it was. With LOGQUEUE_BOOTSTRAP (or --bootstrap)
no embedded log is started and everything runs on that cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from logqueue_api.cli.arguments import (
    DEFAULT_HTTP_PORT,
    DEFAULT_KAFKA_PORT,
    add_config,
    add_data_dir,
    add_json,
    count,
    port,
    process_range,
    seconds,
)
from logqueue_api.cli.exits import CommandError, ExitCode, UsageError
from logqueue_api.cli.reach import check_entry, why_unreachable
from logqueue_api.cli.stack import DEFAULT_BOOTSTRAP, check_bootstrap, outside_bootstrap, use_config

if TYPE_CHECKING:
    from logqueue_api.up.stack_run import StackRun

DEFAULT_DRAIN_SECONDS = 25.0  # as WorkerLimits has it, which is not imported for a default
DEFAULT_CONCURRENCY = 100  # the same
MOST_WORKERS = 256
REACH_ATTEMPTS = 20  # a cluster that is started at the same time gets about five seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "app", nargs="?", metavar="APP", help="module:name or file.py[:name]; without it no workers run"
    )
    add_data_dir(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--kafka-port", type=port, default=DEFAULT_KAFKA_PORT, metavar="P", help="of the log (9092)")
    parser.add_argument("--http-port", type=port, default=DEFAULT_HTTP_PORT, metavar="P", help="of the API (8080)")
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="use this cluster instead of the embedded log")
    parser.add_argument(
        "--workers",
        type=process_range,
        default=(1, 1),
        metavar="N|A..B|auto",
        help="worker processes: N, from A to B as jobs wait, or auto: from 1 to one per processor (1)",
    )
    parser.add_argument("-c", "--concurrency", type=count, metavar="N", help="jobs at once per worker process")
    parser.add_argument(
        "-q", "--queue", action="append", default=[], metavar="Q", help="only these queues (repeatable)"
    )
    parser.add_argument(
        "--drain-timeout",
        type=seconds,
        default=DEFAULT_DRAIN_SECONDS,
        metavar="T",
        help="for running jobs at a stop (25s)",
    )
    parser.add_argument("--feed", metavar="MODULE", help="run `python -m MODULE` once everything is ready")
    parser.add_argument("--all", action="store_true", help="hand --all on to the feed")
    add_config(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from logqueue_api.up.plan import Plan
    from logqueue_api.up.screens import make_screen
    from logqueue_api.up.stack_run import StackRun

    _check(options)
    use_config(options)
    plan = Plan(
        app=options.app,
        data_dir=options.data_dir,
        host=options.host,
        kafka_port=options.kafka_port,
        http_port=options.http_port,
        workers=options.workers[0] if options.app else 0,
        most_workers=options.workers[1],
        capacity=options.concurrency or DEFAULT_CONCURRENCY,
        queues=tuple(options.queue),
        worker_options=_worker_options(options),
        drain_seconds=options.drain_timeout,
        bootstrap=outside_bootstrap(options.bootstrap),
        feed=options.feed,
        feed_all=options.all,
        environment=dict(os.environ),
    )
    return asyncio.run(
        _run(StackRun(plan, make_screen=lambda board: make_screen(board, is_json=options.json)), plan.bootstrap)
    )


async def _run(stack: StackRun, bootstrap: str | None) -> int:
    """A cluster that does not answer, or lets nobody in, is told before anything is started."""
    if bootstrap is None:
        _check_settings()
    elif (reason := await why_unreachable(bootstrap, attempts=REACH_ATTEMPTS)) is not None:
        raise CommandError(
            f"no log answers at {bootstrap}: {reason}",
            code=ExitCode.UNREACHABLE,
            hint="without --bootstrap and LOGQUEUE_BOOTSTRAP `logqueue up` starts a log of its own",
        )
    else:
        from logqueue.jobs.settings import load_settings

        await check_entry(load_settings(bootstrap=bootstrap))
    return await stack.run()


def _check_settings() -> None:
    """A setting that no child could use is told before one is started.

    The embedded log is plain; clients that were told to encrypt or to log in would wait for it for ever.
    """
    if not (any(name.startswith("LOGQUEUE_") for name in os.environ) or Path("logqueue.toml").is_file()):
        return  # as most starts; nothing is imported for it
    from logqueue.jobs.settings import load_settings

    if (protocol := load_settings(bootstrap=DEFAULT_BOOTSTRAP).security_protocol) != "PLAINTEXT":
        raise UsageError(
            f"security_protocol {protocol} is for a log of your own: the one that `logqueue up` starts is PLAINTEXT",
            hint="name yours with --bootstrap or LOGQUEUE_BOOTSTRAP (`logqueue broker --config FILE` starts one with "
            "TLS and SASL), or leave LOGQUEUE_SECURITY_PROTOCOL out",
        )


def _check(options: argparse.Namespace) -> None:
    if options.all and not options.feed:
        raise UsageError("--all is for a feed, and there is none", hint="--feed MODULE names it")
    if options.workers[1] > MOST_WORKERS:
        raise UsageError(f"--workers {options.workers[1]} is more than {MOST_WORKERS}")
    if options.bootstrap:
        check_bootstrap(options.bootstrap, "--bootstrap")
    if options.kafka_port == options.http_port != 0:
        raise UsageError(f"--kafka-port and --http-port are both {options.http_port}")


def _worker_options(options: argparse.Namespace) -> tuple[str, ...]:
    found = ["--drain-timeout", f"{options.drain_timeout}"]
    if options.concurrency is not None:
        found += ["--concurrency", str(options.concurrency)]
    for queue in options.queue:
        found += ["--queue", queue]
    return tuple(found)
