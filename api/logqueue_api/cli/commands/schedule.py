"""Cron schedules: list, show, set, pause, resume, run one now, remove, restore.

What is set here stands above what code declares under the same name, a removal too: `restore` takes either back.
"""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import quote

from logqueue_api.cli.actor import actor, add_by
from logqueue_api.cli.api_client import ApiClient
from logqueue_api.cli.arguments import add_stack, count
from logqueue_api.cli.exits import ExitCode, UsageError
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.stack import find_stack

TOLD = {
    "pause": "no run begins by itself until resume",
    "resume": "runs begin again, with the next time",
    "run-now": "one run begins at once",
    "rm": "the schedule ends; one that code declares comes back with restore",
    "restore": "what code declares holds again: after rm, or after set",
}
VERBS = {"pause": "pause", "resume": "resume", "run-now": "run", "rm": "remove", "restore": "restore"}
DONE = {
    "pause": "is paused",
    "resume": "goes on",
    "run-now": "runs",
    "rm": "is removed",
    "restore": "is as code declares it",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|show|set|pause|resume|run-now|rm|restore")
    ls = verbs.add_parser("ls", help="schedules with their next and last run")
    ls.add_argument("--removed", action="store_true", help="instead those that code declares and rm has ended")
    add_stack(ls)
    show = verbs.add_parser("show", help="one schedule")
    show.add_argument("name", metavar="NAME")
    add_stack(show)
    change = verbs.add_parser("set", help="a schedule from now on, before a declared one of this name")
    change.add_argument("name", metavar="NAME")
    change.add_argument("type", metavar="TYPE", help="job type to run")
    rhythm = change.add_mutually_exclusive_group(required=True)
    rhythm.add_argument("--cron", metavar="'M H D M W'", help="five fields, or six with seconds first")
    rhythm.add_argument("--every", metavar="DURATION", help="10m, 1h30m: counted from 1970")
    change.add_argument("-q", "--queue", metavar="QUEUE", help="where several queues have the type")
    change.add_argument("--tz", metavar="ZONE", default="UTC", help="time zone of --cron, such as Europe/Berlin")
    change.add_argument("--args", metavar="JSON", default="{}", help="arguments of the job")
    change.add_argument("--tenant", metavar="TENANT")
    change.add_argument(
        "--missed", choices=("skip", "latest", "all"), default="latest", help="runs nobody was there for"
    )
    change.add_argument("--cap", type=count, metavar="N", help="at most so many with --missed all")
    change.add_argument("--overlap", choices=("allow", "skip", "buffer"), default="allow", help="while one runs")
    change.add_argument("--jitter", metavar="DURATION", default="0s", help="begin up to this much later")
    add_by(change)
    add_stack(change)
    for verb, told in TOLD.items():
        simple = verbs.add_parser(verb, help=told, description=told)
        simple.add_argument("name", metavar="NAME")
        add_by(simple)
        add_stack(simple)


def run(options: argparse.Namespace) -> int:
    api, output = ApiClient(find_stack(options)), Output(is_json=options.json)
    if options.verb == "ls":
        found = api.get("/v1/schedules", {"removed": "true"} if options.removed else None)["items"]
        items = [{**item, "rhythm": _rhythm(item), "state": _state(item)} for item in found]
        columns = [
            Column("name", "NAME"),
            Column("rhythm", "WHEN"),
            Column("type", "TYPE"),
            Column("tenant", "TENANT"),
            Column("state", "STATE"),
            Column("next_at", "NEXT"),
            Column("last_at", "LAST"),
            Column("fired", "RUNS", right=True),
            Column("source", "SOURCE"),
        ]
        output.items(items, columns, empty="no schedules")
        return ExitCode.OK
    if "/" in options.name:  # quoted or not, the API reads it as a path
        raise UsageError(f"{options.name!r} is no name of a schedule: letters, digits and . _ -")
    path = f"/v1/schedules/{quote(options.name, safe='')}"
    if options.verb == "show":
        output.record(api.get(path))
        return ExitCode.OK
    if options.verb == "set":
        answer = api.post(f"{path}:set", _wanted(options), by=actor(options))
        output.event(answer, f"{options.name} is set")
        return ExitCode.OK
    answer = api.post(f"{path}:{VERBS[options.verb]}", {}, by=actor(options))
    told = f"{options.name} {DONE[options.verb]}" + (f": {answer['job']}" if answer["job"] else "")
    if options.verb == "rm" and answer["declared"]:
        told += f"; code declares it: `logqueue schedule restore {options.name}` brings it back"
    output.event(answer, told)
    return ExitCode.OK


def _wanted(options: argparse.Namespace) -> dict[str, Any]:
    import json

    try:
        arguments = json.loads(options.args)
    except ValueError as error:
        raise UsageError(f"--args is no JSON: {error}") from None
    body = {
        "type": options.type,
        "queue": options.queue,
        "args": arguments,
        "tenant": options.tenant,
        "cron": options.cron,
        "every": options.every,
        "timezone": options.tz,
        "missed": options.missed,
        "cap": options.cap,
        "overlap": options.overlap,
        "jitter": options.jitter,
    }
    return {name: value for name, value in body.items() if value is not None}


def _rhythm(item: dict[str, Any]) -> str:
    if item["cron"] is None:
        return f"every {item['every']}"
    zone = "" if item["timezone"] == "UTC" else f" {item['timezone']}"
    return f"{item['cron']}{zone}"


def _state(item: dict[str, Any]) -> str:
    return "paused" if item["paused"] else "running" if item["running"] else "waiting"
