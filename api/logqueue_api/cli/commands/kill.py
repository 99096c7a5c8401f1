"""Kill switches: jobs of a type, with these arguments, end as cancelled instead of running, until it is taken back."""

from __future__ import annotations

import argparse
import json
from typing import Any

from logqueue_api.cli.actor import actor, add_by
from logqueue_api.cli.api_client import ApiClient
from logqueue_api.cli.arguments import add_stack
from logqueue_api.cli.exits import ExitCode, UsageError
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.stack import find_stack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|set|rm")
    add_stack(verbs.add_parser("ls", help="kill switches that are thrown"))
    throw = verbs.add_parser("set", help="throw one: logqueue kill set NAME TYPE [argument=value ...]")
    throw.add_argument("name", metavar="NAME")
    throw.add_argument("type", metavar="TYPE")
    throw.add_argument("arguments", metavar="k=v", nargs="*", help="a value is JSON, or else text")
    throw.add_argument("-q", "--queue", metavar="QUEUE")
    throw.add_argument("--tenant", metavar="TENANT")
    throw.add_argument("--force", action="store_true", help="also for a type or queue that no worker has published yet")
    throw.add_argument("--reason", metavar="TEXT", help="kept with the jobs and in the audit log")
    add_by(throw)
    add_stack(throw)
    back = verbs.add_parser("rm", help="take one back; what has ended stays ended")
    back.add_argument("name", metavar="NAME")
    add_by(back)
    add_stack(back)


def run(options: argparse.Namespace) -> int:
    api, output = ApiClient(find_stack(options)), Output(is_json=options.json)
    if options.verb == "ls":
        items = [
            {"name": item["key"].removeprefix("kill/"), "by": item["by"], "at": item["at"], **item["value"]}
            for item in api.get("/v1/kills")["items"]
        ]
        names = ("name", "type", "queue", "tenant", "arguments", "by", "at", "reason")
        output.items(items, [Column(name, name.upper()) for name in names], empty="no kill switch is thrown")
        return ExitCode.OK
    body: dict[str, Any] = {"name": options.name}
    if options.verb == "set":
        given = ("type", "queue", "tenant", "reason")
        body |= {name: value for name in given if (value := getattr(options, name)) is not None}
        body |= {"force": True} if options.force else {}
        body["arguments"] = dict(map(_argument, options.arguments))
    answer = api.post(f"/v1/kills:{'set' if options.verb == 'set' else 'remove'}", body, by=actor(options))
    output.event(answer, f"{answer['key']} {'is thrown' if options.verb == 'set' else 'is taken back'}")
    return ExitCode.OK


def _argument(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise UsageError(f"{text!r} is no argument", hint="write name=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
