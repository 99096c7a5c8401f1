"""Commands about jobs, one or many by filter: what `job` and `jobs` share. Talks to the HTTP API."""

from __future__ import annotations

import argparse
import time
from typing import Any

from logqueue_api.cli.actor import actor, add_by
from logqueue_api.cli.api_client import ApiClient, quoted
from logqueue_api.cli.arguments import add_stack, count, moment, states
from logqueue_api.cli.exits import CommandError, ExitCode, UsageError
from logqueue_api.cli.output import Output, text_of
from logqueue_api.cli.progress import ProgressLine

VERBS = {
    "cancel": "a job that waits (or is parked) ends as cancelled, one that runs is told to stop",
    "retry": "a job that is dead, cancelled or expired runs again, as its next replay",
    "run-now": "a job that waits for its time begins at once",
    "discard": "close the dead letters of a dead job; a parked job ends as cancelled",
}
AS_TYPE = "as this job type; takes parked jobs too, whose type is missing or unknown"
BULK_VERBS = ("cancel", "retry", "discard")
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 3600.0
_DONE = {"cancel": "told to stop", "retry": "sent round again", "discard": "discarded"}


def add_one(verbs: Any) -> None:
    """`job cancel ID` and its kin."""
    for verb, told in VERBS.items():
        parser = verbs.add_parser(verb, help=told)
        parser.add_argument("id", metavar="ID")
        if verb == "cancel":
            parser.add_argument("--reason", metavar="TEXT", help="kept with the job and in the audit log")
        if verb == "retry":
            parser.add_argument("--group", metavar="G", help="who runs it, for a job that no group has run yet")
            parser.add_argument("--as-type", metavar="TYPE", help=AS_TYPE)
        add_by(parser)
        add_stack(parser)


def run_one(api: ApiClient, options: argparse.Namespace, output: Output) -> int:
    """Send the command about one job."""
    body = {
        name: value for name in ("reason", "group", "as_type") if (value := getattr(options, name, None)) is not None
    }
    answer = api.post(f"/v1/jobs/{quoted(options.id)}:{options.verb}", body, by=actor(options))
    told = f"{options.verb} of {options.id} is on the log" if answer["accepted"] else f"{options.id} is so already"
    output.event(answer, told)
    return ExitCode.OK


def add_many(verbs: Any) -> None:
    """`jobs cancel --type ...` and its kin."""
    for verb in BULK_VERBS:
        parser = verbs.add_parser(verb, help=f"{verb} all jobs that match (at least one filter is needed)")
        parser.add_argument(
            "--state", type=states, help="one or several with commas; default: every state that this takes"
        )
        parser.add_argument("--type", metavar="TYPE")
        parser.add_argument("--tenant", metavar="TENANT")
        parser.add_argument("-q", "--queue", metavar="QUEUE")
        parser.add_argument(
            "--since", type=moment, metavar="TIME", help="created at or after (ISO 8601, or 15m ago: 15m)"
        )
        parser.add_argument("--until", type=moment, metavar="TIME", help="created before")
        parser.add_argument("-n", "--limit", type=count, help="at most this many, the newest")
        parser.add_argument("--dry-run", action="store_true", help="only say how many it would be")
        if verb == "cancel":
            parser.add_argument("--reason", metavar="TEXT", help="kept with the jobs and in the audit log")
        if verb == "retry":
            parser.add_argument("--as-type", metavar="TYPE", help=AS_TYPE + " (with --queue)")
        add_by(parser)
        add_stack(parser)


def run_many(api: ApiClient, options: argparse.Namespace, output: Output) -> int:
    """Start the bulk change and follow it to its end."""
    body: dict[str, Any] = {"dry_run": options.dry_run}
    for name in ("type", "tenant", "queue", "limit", "reason", "as_type"):
        if (value := getattr(options, name, None)) is not None:
            body[name] = value
    if options.state is not None:
        body["state"] = options.state.split(",")
    body |= {name: text_of(getattr(options, name)) for name in ("since", "until") if getattr(options, name)}
    if not any(name in body for name in ("type", "tenant", "queue", "state", "since", "until")):
        raise UsageError("which jobs?", hint="give at least one of --state --type --tenant --queue --since --until")
    operation = follow(api, api.post(f"/v1/jobs:{options.verb}", body, by=actor(options)))
    counts = operation["counts"]
    matched = counts.get("matched", 0)
    told = (
        f"{matched} would be {_DONE[options.verb]}"
        if options.dry_run
        else f"{counts.get('done', 0)} {_DONE[options.verb]}"
    )
    if counts.get("impossible"):
        told += f", {counts['impossible']} cannot be: their record is gone, or no group is known to run them"
    if operation["detail"]:
        told += f" ({operation['detail']})"
    output.event(operation, told)
    return ExitCode.OK


def follow(api: ApiClient, operation: dict[str, Any]) -> dict[str, Any]:
    """The operation at its end; CommandError where it failed or takes too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with ProgressLine(str(operation["operation"])) as line:
        while operation["state"] == "running":
            if time.monotonic() > deadline:
                raise CommandError(
                    f"operation {operation['id']} goes on; look at /v1/operations", code=ExitCode.TIMEOUT
                )
            line.show(operation["counts"])
            time.sleep(POLL_SECONDS)
            operation = api.get(f"/v1/operations/{quoted(operation['id'])}")
    if operation["state"] == "failed":
        raise CommandError(str(operation["detail"]), code=ExitCode.FAILED)
    return operation
