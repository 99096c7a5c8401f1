"""Limits of what runs: list those declared and commanded, set one, take one back."""

from __future__ import annotations

import argparse

from logqueue_api.cli.actor import actor, add_by
from logqueue_api.cli.api_client import ApiClient
from logqueue_api.cli.arguments import add_stack, count
from logqueue_api.cli.exits import ExitCode
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.stack import find_stack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|set|rm")
    add_stack(verbs.add_parser("ls", help="limits, declared in code and commanded"))
    for verb, told in (
        ("set", "a limit from now on, before the declared one; without --running and --rate: none"),
        ("rm", "take a commanded limit back: the declared one holds again"),
    ):
        change = verbs.add_parser(verb, help=told)
        change.add_argument("-q", "--queue", metavar="QUEUE", help="of a queue")
        change.add_argument("--type", metavar="TYPE", help="of a job type")
        change.add_argument("--tenant", metavar="TENANT", help="of this tenant of the queue")
        change.add_argument("--each", metavar="BY", help="for each: queue, tenant, type, argument:NAME")
        if verb == "set":
            change.add_argument("--running", type=count, metavar="N", help="at most so many at once")
            change.add_argument("--rate", metavar="N/s", help="at most so many starts: 100/s, 30/m, 5/10s")
            change.add_argument("--burst", type=count, metavar="N", help="so many at once after a pause")
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
    names = {"queue": "queue", "type": "type", "tenant": "tenant", "each": "by"}
    names |= {name: name for name in ("running", "rate", "burst")}
    body = {field: value for name, field in names.items() if (value := getattr(options, name, None)) is not None}
    answer = api.post(f"/v1/limits:{'set' if options.verb == 'set' else 'remove'}", body, by=actor(options))
    output.event(answer, f"{answer['key']} {'holds' if options.verb == 'set' else 'is taken back'}")
    return ExitCode.OK
