"""Many jobs: list them by state, type, tenant, queue and time, newest first; cancel, retry or discard them so."""

from __future__ import annotations

import argparse
from typing import Any

from logqueue_api.cli.api_client import ApiClient
from logqueue_api.cli.arguments import add_stack, count, moment, states
from logqueue_api.cli.exits import ExitCode
from logqueue_api.cli.job_commands import add_many, run_many
from logqueue_api.cli.output import Column, Output, text_of
from logqueue_api.cli.stack import find_stack

DEFAULT_LIMIT = 20
LARGEST_PAGE = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|cancel|retry|discard")
    add_many(verbs)
    ls = verbs.add_parser("ls", help="list jobs, newest first")
    ls.add_argument(
        "--state",
        type=states,
        help="queued, scheduled, blocked, running, retrying, succeeded, dead, parked, cancelled, expired",
    )
    ls.add_argument("--type", metavar="TYPE")
    ls.add_argument("--tenant", metavar="TENANT")
    ls.add_argument("-q", "--queue", metavar="QUEUE")
    ls.add_argument("--since", type=moment, metavar="TIME", help="created at or after (ISO 8601, or 15m ago: 15m)")
    ls.add_argument("--until", type=moment, metavar="TIME", help="created before")
    ls.add_argument("--group", metavar="G", help="the runs of this replay group instead of the live ones")
    ls.add_argument("-n", "--limit", type=count, default=DEFAULT_LIMIT, help=f"how many ({DEFAULT_LIMIT})")
    ls.add_argument("--cursor", help="go on where a list ended (its next_cursor)")
    add_stack(ls)


def run(options: argparse.Namespace) -> int:
    api = ApiClient(find_stack(options))
    output = Output(is_json=options.json)
    if options.verb != "ls":
        return run_many(api, options, output)
    items, cursor = _pages(api, options)
    for item in items:
        item.setdefault("why", _why(item))
    columns = [
        Column("id", "ID"),
        Column("type", "TYPE"),
        Column("tenant", "TENANT"),
        Column("state", "STATE"),
        Column("attempt", "ATTEMPT", right=True),
        Column("created_at", "CREATED"),
        Column("why", "ERROR"),
    ]
    if output.is_json:
        for item in items:
            del item["why"]
    output.items(items, columns, empty="no such jobs", extra={"next_cursor": cursor})
    if cursor:
        output.line(f"there are more: --cursor {cursor}")
    return ExitCode.OK


def _pages(api: ApiClient, options: argparse.Namespace) -> tuple[list[dict[str, Any]], str | None]:
    """Up to --limit jobs, page after page."""
    query: dict[str, object] = {name: getattr(options, name) for name in ("state", "type", "tenant", "queue", "group")}
    query |= {name: text_of(getattr(options, name)) for name in ("since", "until") if getattr(options, name)}
    items: list[dict[str, Any]] = []
    cursor = options.cursor
    while len(items) < options.limit:
        page = min(options.limit - len(items), LARGEST_PAGE)
        answer = api.get("/v1/jobs", query | {"limit": page, "cursor": cursor})
        items += answer["items"]
        cursor = answer.get("next_cursor")
        if not cursor:
            break
    return items, cursor


def _why(item: dict[str, Any]) -> str | None:
    error = item.get("error")
    if not isinstance(error, dict):
        return error
    return ": ".join(str(error[key]) for key in ("type", "message") if error.get(key))
