"""Weights of tenants and priority classes beside each other: list those commanded, set one, take one back."""

from __future__ import annotations

import argparse

from logqueue_api.cli.actor import actor, add_by
from logqueue_api.cli.api_client import ApiClient
from logqueue_api.cli.arguments import add_stack, number
from logqueue_api.cli.exits import ExitCode
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.stack import find_stack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|set|rm")
    add_stack(verbs.add_parser("ls", help="weights that were commanded"))
    for verb, told in (("set", "a weight from now on"), ("rm", "the declared weight holds again")):
        change = verbs.add_parser(verb, help=told)
        change.add_argument("queue", metavar="QUEUE")
        if verb == "set":
            change.add_argument("weight", metavar="WEIGHT", type=number)
            change.add_argument(
                "--force", action="store_true", help="also for a queue that no worker has published yet"
            )
        change.add_argument("--tenant", metavar="TENANT")
        change.add_argument("--priority", metavar="CLASS")
        add_by(change)
        add_stack(change)


def run(options: argparse.Namespace) -> int:
    api, output = ApiClient(find_stack(options)), Output(is_json=options.json)
    if options.verb == "ls":
        items = [
            {"what": item["key"].removeprefix("weight/"), "weight": item["value"].get("weight"), "by": item["by"]}
            for item in api.get("/v1/weights")["items"]
        ]
        columns = [Column("what", "OF"), Column("weight", "WEIGHT", right=True), Column("by", "BY")]
        output.items(items, columns, empty="no weights were commanded")
        return ExitCode.OK
    names = ("queue", "tenant", "priority", "weight")
    body = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    body |= {"force": True} if getattr(options, "force", False) else {}
    answer = api.post(f"/v1/weights:{'set' if options.verb == 'set' else 'remove'}", body, by=actor(options))
    output.event(answer, f"{answer['key']} {'holds' if options.verb == 'set' else 'is taken back'}")
    return ExitCode.OK
