"""The workers that run, wherever they run: what they work on, how much, and who is gone."""

from __future__ import annotations

import argparse
from typing import Any

from logqueue_api.cli.api_client import ApiClient
from logqueue_api.cli.arguments import add_stack
from logqueue_api.cli.exits import ExitCode
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.stack import find_stack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group", metavar="G", help="only the workers of this group")
    add_stack(parser)


def run(options: argparse.Namespace) -> int:
    output = Output(is_json=options.json)
    items = ApiClient(find_stack(options)).get("/v1/workers", {"group": options.group})["items"]
    columns = [
        Column("worker", "WORKER"),
        Column("group", "GROUP"),
        Column("state", "STATE"),
        Column("busy", "RUNNING", right=True),
        Column("done", "DONE", right=True),
        Column("lag", "LAG", right=True),
        Column("queues_text", "QUEUES"),
        Column("parts", "PARTITIONS", right=True),
        Column("seen", "LAST SEEN", right=True),
        Column("problem", "PROBLEM"),
    ]
    output.items(items if options.json else [_row(item) for item in items], columns, empty="no workers")
    return ExitCode.OK


def _row(item: dict[str, Any]) -> dict[str, Any]:
    return item | {
        "busy": f"{item['running']}/{item['concurrency']}",
        "queues_text": ",".join(item["queues"]),
        "parts": sum(len(numbers) for numbers in item["partitions"].values()),
        "seen": f"{item['last_seen_s']:.0f}s",
    }
