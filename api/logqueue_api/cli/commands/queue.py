"""Queues: how much is in them and what is paused; pause and resume a queue, a tenant of it, or a job type."""

from __future__ import annotations

import argparse
from typing import Any

from logqueue_api.cli.actor import actor, add_by
from logqueue_api.cli.api_client import ApiClient, quoted
from logqueue_api.cli.arguments import add_stack
from logqueue_api.cli.exits import ExitCode, UsageError
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.stack import find_stack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|pause|resume")
    ls = verbs.add_parser("ls", help="queues with their jobs by state, and what is paused")
    add_stack(ls)
    for verb, told in (("pause", "no job of it starts; those that run go on"), ("resume", "its jobs start again")):
        change = verbs.add_parser(verb, help=told)
        change.add_argument("queue", metavar="QUEUE", nargs="?")
        change.add_argument("--tenant", metavar="TENANT", help="only this tenant of the queue")
        change.add_argument("--type", metavar="TYPE", help="a job type, instead of a queue")
        if verb == "pause":
            change.add_argument("--reason", metavar="TEXT", help="kept with the command and in the audit log")
            change.add_argument(
                "--force", action="store_true", help="also a queue or type that no worker has published yet"
            )
        add_by(change)
        add_stack(change)


def run(options: argparse.Namespace) -> int:
    output = Output(is_json=options.json)
    if options.verb == "ls":
        return _ls(ApiClient(find_stack(options)), output)
    if (options.queue is None) == (options.type is None):
        raise UsageError("which one?", hint="give a queue, or --type TYPE")
    if options.type is not None and options.tenant is not None:
        raise UsageError(
            "a type is paused for all tenants", hint="a tenant is paused in a queue: QUEUE --tenant TENANT"
        )
    body: dict[str, Any] = {"tenant": options.tenant} if options.tenant is not None else {}
    if options.verb == "pause" and options.reason:
        body["reason"] = options.reason
    if options.verb == "pause" and options.force:
        body["force"] = True
    path = f"/v1/queues/{quoted(options.queue)}" if options.queue is not None else f"/v1/types/{quoted(options.type)}"
    answer = ApiClient(find_stack(options)).post(f"{path}:{options.verb}", body, by=actor(options))
    what = answer["key"].removeprefix("pause/")
    output.event(answer, f"{what} is {'paused' if options.verb == 'pause' else 'resumed'}")
    return ExitCode.OK


def _ls(api: ApiClient, output: Output) -> int:
    queues = api.get("/v1/queues")["items"]
    pauses = api.get("/v1/pauses")["items"]
    if output.is_json:
        output.document({"queues": queues, "pauses": pauses})
        return ExitCode.OK
    paused = {item["key"] for item in pauses}
    states = ("queued", "scheduled", "running", "retrying", "dead")
    items = [
        {
            "queue": queue["queue"],
            "paused": "paused" if f"pause/queue/{queue['queue']}" in paused else "",
            **{state: queue["counts"].get(state, 0) for state in states},
        }
        for queue in queues
    ]
    columns = [Column("queue", "QUEUE"), Column("paused", "PAUSED")]
    columns += [Column(state, state.upper(), right=True) for state in states]
    output.items(items, columns, empty="no queues yet")
    others = [item for item in pauses if not item["key"].startswith("pause/queue/")]
    if others:
        output.line()
        shown = [
            {"what": item["key"].removeprefix("pause/"), "by": item["by"], "at": item["at"], **item["value"]}
            for item in others
        ]
        output.items(
            shown,
            [Column("what", "PAUSED"), Column("by", "BY"), Column("at", "SINCE"), Column("reason", "REASON")],
            empty="",
        )
    return ExitCode.OK
