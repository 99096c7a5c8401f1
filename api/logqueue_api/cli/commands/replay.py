"""Run history again: the records of a topic through the handlers of APP, in a shadow group of its own.

The live group, its offsets and its statuses are not touched. A replay that was stopped goes on where it was. Which
records run is said by offsets or times (--from, --to), or by what the API knows of the jobs (--type, --since, --until,
--tenant, --state, --handler-version). Handlers run for real: what they do through ctx.effect does not happen, but a
mail that they send or a row that they write without it is sent and written once more. What they print goes to standard
error. With --compare results are set beside those of the live runs. Exit code 1 means that some replayed jobs failed,
or with --compare that some differ.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from logqueue_api.cli.api_client import ApiClient
from logqueue_api.cli.app_loading import load_app
from logqueue_api.cli.arguments import add_stack, count, position, seconds
from logqueue_api.cli.exits import CommandError, ExitCode, UsageError
from logqueue_api.cli.job_query import add_query, choose, has_query
from logqueue_api.cli.log_lines import LEVELS, configure
from logqueue_api.cli.output import Output
from logqueue_api.cli.printed import ended_lines, own_output
from logqueue_api.cli.replay_report import pointer, told_comparison
from logqueue_api.cli.stack import Stack, find_stack

if TYPE_CHECKING:
    from logqueue_consumers.replaying.extent import Chosen
    from logqueue_consumers.replaying.replay import ReplaySummary

    from logqueue.jobs.app import App

WARNING = (
    "handlers run for real: only what they do through ctx.effect is kept from happening,"
    " anything else (mails, requests, rows) happens once more"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", metavar="TOPIC", help="jobs.<queue>, or a retry, dlq or parked topic")
    parser.add_argument("app", metavar="APP", help="module:name or file.py[:name]")
    parser.add_argument(
        "--from",
        dest="start",
        type=position,
        metavar="OFFSET|TIME",
        help="from here, in every partition",
    )
    parser.add_argument(
        "--to", dest="end", type=position, metavar="OFFSET|TIME", help="before this (the end as it is now)"
    )
    parser.add_argument("--group", required=True, metavar="G", help="the shadow group; the same one goes on")
    add_query(parser)
    parser.add_argument(
        "--effects",
        choices=["deny", "none", "recorded"],
        default="deny",
        help="what ctx.effect does: raise, return None, or return what was recorded live (deny)",
    )
    parser.add_argument("--compare", action="store_true", help="tell where results differ from those of the live runs")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        type=pointer,
        metavar="/PATH",
        help="of results, does not count (/items/*/at)",
    )
    parser.add_argument("--progress", action="store_true", help="with --json: a line for every step of the way")
    parser.add_argument("-c", "--concurrency", type=count, metavar="N", help="jobs at once (100)")
    parser.add_argument("--drain-timeout", type=seconds, metavar="T", help="for running jobs at a stop (25s)")
    parser.add_argument("--dry-run", action="store_true", help="only say how many records it would be at most")
    parser.add_argument(
        "--log-level", choices=LEVELS, default="warning", help="of the lines on standard error (warning)"
    )
    add_stack(parser)


def run(options: argparse.Namespace) -> int:
    _check(options)
    stack = find_stack(options)
    configure(options.log_level)
    output = Output(is_json=options.json)
    app = load_app(options.app)

    from logqueue_consumers.replaying.extent import InvalidReplay, check_shadow

    from logqueue.jobs.settings import load_settings

    app.configure(load_settings(bootstrap=stack.bootstrap))
    try:
        check_shadow(options.group, app)
    except InvalidReplay as error:
        raise UsageError(str(error)) from None
    chosen = choose(ApiClient(stack), options, app.settings.topics) if has_query(options) else None
    try:
        if not options.dry_run:
            return _replay(app, options, output, chosen)
        records = _count(stack, options) if chosen is None else sum(map(len, chosen.values()))
        at_most = "at most " if chosen is None else ""
        output.event(
            {"topic": options.topic, "group": options.group, "records": records, "dry_run": True, "warning": WARNING},
            f"{at_most}{records} records of {options.topic} would be replayed in group {options.group}",
        )
        return ExitCode.OK
    except InvalidReplay as error:
        code = ExitCode.NOT_FOUND if "does not exist" in str(error) else ExitCode.USAGE
        raise CommandError(str(error), code=code) from error


def _check(options: argparse.Namespace) -> None:
    """Two offsets, or two times, can be compared before anything is read."""
    start, end = options.start, options.end
    if start is None and not has_query(options):
        raise UsageError(
            "which records?", hint="--from OFFSET|TIME, or --type, --since, --state ... as the API knows jobs"
        )
    if start is not None and has_query(options):
        raise UsageError("--from and a query say both which records", hint="use --since and --until for times")
    if options.ignore and not options.compare:
        raise UsageError("--ignore is for --compare")
    if end is not None and type(start) is type(end) and end < start:
        raise UsageError(f"--to {end} is before --from {start}", hint="--from N --to M replays N up to, not with, M")


def _count(stack: Stack, options: argparse.Namespace) -> int:
    """How many offsets lie between --from and --to, in all partitions: records, and markers of transactions."""
    from logqueue_api.cli import kafka

    async def count_records() -> int:
        async with kafka.Log(stack) as log:
            parts = await log.topic(options.topic)
            starts = await log.offsets_at(options.topic, parts, options.start)
            ends = {part.partition: part.end for part in parts}
            if options.end is not None:
                ends = await log.offsets_at(options.topic, parts, options.end)
            return sum(max(ends[number] - start, 0) for number, start in starts.items())

    return kafka.run(count_records())


def _replay(app: App, options: argparse.Namespace, output: Output, chosen: Chosen | None) -> int:
    import uvloop
    from logqueue_consumers.replaying.replay import run_replay

    from logqueue.jobs.effects import Effects

    with (
        own_output() as stream,
        _progress(Output(is_json=output.is_json, stream=stream), options) as on_progress,
        ended_lines(),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        summary = runner.run(
            run_replay(
                app,
                topic=options.topic,
                group=options.group,
                start=options.start,
                end=options.end,
                concurrency=options.concurrency,
                drain_timeout=options.drain_timeout,
                on_progress=on_progress,
                on_ready=lambda: output.warn(WARNING),
                chosen=chosen,
                effects=Effects(options.effects),
                compare=options.compare,
                ignore=options.ignore,
            )
        )
    output.event(asdict(summary) | {"warning": WARNING}, _told(summary))
    if summary.comparison is not None:
        for line in told_comparison(summary.comparison):
            output.line(line)
    if not summary.is_complete:
        return ExitCode.INTERRUPTED
    if summary.comparison is not None:
        return ExitCode.OK if summary.comparison.is_same else ExitCode.FAILED
    return ExitCode.FAILED if summary.dead else ExitCode.OK


def _told(summary: ReplaySummary) -> str:
    parts = [f"{summary.succeeded} succeeded", f"{summary.dead} dead"]
    parts += [f"{n} {word}" for n, word in ((summary.parked, "parked"), (summary.scheduled, "scheduled")) if n]
    if summary.resumed:
        parts.append(f"{summary.resumed} done by an earlier run")
    how = "replayed" if summary.is_complete else "stopped; the same command goes on"
    return (
        f"{summary.topic} in group {summary.group}: {how}, {summary.records} records in {summary.seconds:.1f} s: "
        + (", ".join(parts))
    )


@contextmanager
def _progress(output: Output, options: argparse.Namespace) -> Iterator[Callable[[int, int], None]]:
    """A bar where a person is looking, lines where a program asked for them, nothing elsewhere."""
    if output.is_json and options.progress:
        yield lambda done, total: output.event({"event": "progress", "done": done, "total": total}, "")
        return
    if not output.is_screen:
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=output.stream),
        transient=True,
    ) as bar:
        task = bar.add_task(f"replaying {options.topic}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
