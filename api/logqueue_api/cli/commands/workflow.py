"""Workflows: list them, show one with its nodes, cancel one as a whole."""

from __future__ import annotations

import argparse
from typing import Any

from logqueue_api.cli.actor import actor, add_by
from logqueue_api.cli.api_client import ApiClient, quoted
from logqueue_api.cli.arguments import add_stack, count
from logqueue_api.cli.exits import ExitCode
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.stack import find_stack

DEFAULT_LIMIT = 20
DEFAULT_NODES = 100
LARGEST_PAGE = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|show|cancel")
    ls = verbs.add_parser("ls", help="list workflows, newest first")
    ls.add_argument("--state", help="running, cancelling, succeeded, failed, cancelled")
    ls.add_argument("--tenant", metavar="TENANT")
    ls.add_argument("--name", metavar="NAME")
    ls.add_argument("-n", "--limit", type=count, default=DEFAULT_LIMIT, help=f"how many ({DEFAULT_LIMIT})")
    add_stack(ls)
    show = verbs.add_parser("show", help="one workflow, its counts and its nodes")
    show.add_argument("id", metavar="ID")
    show.add_argument("--state", help="only nodes that the owner has in this state: blocked, queued, dead, ...")
    show.add_argument("-n", "--limit", type=count, default=DEFAULT_NODES, help=f"how many nodes ({DEFAULT_NODES})")
    add_stack(show)
    cancel = verbs.add_parser("cancel", help="end what has not begun, tell the jobs that run")
    cancel.add_argument("id", metavar="ID")
    cancel.add_argument("--dry-run", action="store_true", help="only tell how many nodes would be ended")
    add_by(cancel)
    add_stack(cancel)


def run(options: argparse.Namespace) -> int:
    api = ApiClient(find_stack(options))
    output = Output(is_json=options.json)
    if options.verb == "ls":
        return _list(api, options, output)
    if options.verb == "show":
        return _show(api, options, output)
    path = f"/v1/workflows/{quoted(options.id)}:cancel"
    output.record(api.post(path, {"dry_run": options.dry_run}, by=actor(options)))
    return ExitCode.OK


def _list(api: ApiClient, options: argparse.Namespace, output: Output) -> int:
    query: dict[str, object] = {name: getattr(options, name) for name in ("state", "tenant", "name")}
    items, cursor = _pages(api, "/v1/workflows", query, options.limit, key="items", asks="cursor", tells="next_cursor")
    columns = [
        Column("id", "ID"),
        Column("name", "NAME"),
        Column("tenant", "TENANT"),
        Column("state", "STATE"),
        Column("progress", "NODES", right=True),
        Column("created_at", "CREATED"),
    ]
    if not output.is_json:
        for item in items:
            item["progress"] = f"{item['total'] - _open(item)}/{item['total']}"
    output.items(items, columns, empty="no such workflows", extra={"next_cursor": cursor})
    return ExitCode.OK


def _show(api: ApiClient, options: argparse.Namespace, output: Output) -> int:
    path = f"/v1/workflows/{quoted(options.id)}"
    query: dict[str, object] = {"state": options.state}
    nodes, rest = _pages(api, path, query, options.limit, key="nodes", asks="after_node", tells="next_node")
    document = api.get(path, {"limit": 1})
    if output.is_json:
        output.document(document | {"nodes": nodes, "next_node": rest})
        return ExitCode.OK
    counts = document.pop("counts")
    output.record(
        {name: value for name, value in document.items() if name not in ("nodes", "next_node")}
        | {"nodes": ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))}
    )
    output.line("")
    for node in nodes:
        node["behind"] = ", ".join(
            name if policy == "fail" else f"{name} ({policy})" for name, policy in node["after"].items()
        )
        node["why"] = f"{node['error']['type']}: {node['error']['message']}" if node["error"] else None
    columns = [
        Column("node", "NODE"),
        Column("type", "TYPE"),
        Column("state", "STATE"),
        Column("attempt", "ATTEMPT", right=True),
        Column("behind", "AFTER"),
        Column("why", "ERROR"),
    ]
    output.items(nodes, columns, empty="no such nodes", extra={})
    if rest:
        output.line("there are more nodes: --limit shows them")
    return ExitCode.OK


def _open(item: dict[str, Any]) -> int:
    """Nodes that have not ended."""
    return sum(item["counts"].get(state, 0) for state in ("waiting", "blocked", "queued"))


def _pages(
    api: ApiClient, path: str, query: dict[str, object], limit: int, *, key: str, asks: str, tells: str
) -> tuple[list[dict[str, Any]], str | None]:
    """Up to `limit` items, page after page, and where the rest begins."""
    items: list[dict[str, Any]] = []
    place: str | None = None
    while len(items) < limit:
        page = min(limit - len(items), LARGEST_PAGE)
        answer = api.get(path, query | {"limit": page, asks: place})
        items += answer[key]
        place = answer[tells]
        if place is None:
            break
    return items, place
