"""Limits of what runs: list those declared and commanded, set one, take one back.

    logqueue limit set --queue emails --running 50               at most 50 of the queue's jobs at once
    logqueue limit set --queue emails --each tenant --rate 30/m  each tenant starts at most 30 a minute
    logqueue limit set --queue emails --tenant acme --running 2  this tenant at most 2 at once
    logqueue limit set --type email.send --rate 5/10s --burst 5  the type at most 5 starts in ten seconds
    logqueue limit set --queue emails --each tenant --none       lifts the limit that code declares

A rate is a number of starts per ms, s, m, h or d (100/s, 30/m, 5/10s); a number of jobs at once has no unit.
"""

from __future__ import annotations

import argparse

from logqueue_api.cli.actor import actor, add_by
from logqueue_api.cli.api_client import ApiClient
from logqueue_api.cli.arguments import add_stack, count
from logqueue_api.cli.exits import ExitCode, UsageError
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.stack import find_stack

FORCE = "also for a queue or type that no worker has published yet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|set|rm")
    add_stack(verbs.add_parser("ls", help="limits, declared in code and commanded"))
    for verb, told in (
        ("set", "a limit from now on, before the declared one"),
        ("rm", "take a commanded limit back: the declared one holds again"),
    ):
        change = verbs.add_parser(verb, help=told, description=__doc__ if verb == "set" else told)
        change.add_argument("-q", "--queue", metavar="QUEUE", help="of a queue")
        change.add_argument("--type", metavar="TYPE", help="of a job type")
        change.add_argument("--tenant", metavar="TENANT", help="of this tenant of the queue")
        change.add_argument("--each", metavar="BY", help="for each tenant, type, argument:NAME; default: all together")
        if verb == "set":
            change.add_argument("--running", type=count, metavar="N", help="at most so many jobs at once")
            change.add_argument("--rate", metavar="N/TIME", help="at most so many starts: 100/s, 30/m, 5/10s")
            change.add_argument("--burst", type=count, metavar="N", help="with --rate: so many may start at once")
            change.add_argument("--none", action="store_true", help="no limit, also none that code declares")
            change.add_argument("--force", action="store_true", help=FORCE)
        add_by(change)
        add_stack(change)


def run(options: argparse.Namespace) -> int:
    api, output = ApiClient(find_stack(options)), Output(is_json=options.json)
    if options.verb == "ls":
        columns = [
            Column("scope", "SCOPE"),
            Column("subject", "OF"),
            Column("by", "FOR EACH"),
            Column("running", "RUNNING", right=True),
            Column("rate", "RATE", right=True),
            Column("burst", "BURST", right=True),
            Column("source", "SOURCE"),
            Column("commanded_by", "BY"),
        ]
        output.items(api.get("/v1/limits")["items"], columns, empty="no limits")
        return ExitCode.OK
    if options.verb == "set" and options.none == (options.running is not None or options.rate is not None):
        raise UsageError("which limit?", hint="--running N, --rate N/TIME, or --none for no limit")
    names = {"queue": "queue", "type": "type", "tenant": "tenant", "each": "by"}
    names |= {name: name for name in ("running", "rate", "burst")}
    # What is given empty is sent: without its tenant the limit would be one of the whole queue.
    body = {field: value for name, field in names.items() if (value := getattr(options, name, None)) is not None}
    body |= {"force": True} if getattr(options, "force", False) else {}
    answer = api.post(f"/v1/limits:{'set' if options.verb == 'set' else 'remove'}", body, by=actor(options))
    output.event(answer, f"{answer['key']} {'holds' if options.verb == 'set' else 'is taken back'}")
    return ExitCode.OK
