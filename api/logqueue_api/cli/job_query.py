"""Jobs chosen by what the API knows of them: the options that say which, and where their records lie."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from logqueue_api.cli.api_client import ApiClient
from logqueue_api.cli.arguments import moment, states
from logqueue_api.cli.exits import CommandError, ExitCode
from logqueue_api.cli.output import text_of

if TYPE_CHECKING:
    from logqueue.jobs.topics import TopicNames

MAX_CHOSEN = 1_000_000
PAGE = 100

QUERY = ("type", "tenant", "state", "since", "until", "handler_version")


def add_query(parser: argparse.ArgumentParser) -> None:
    """`--type`, `--since` and their like."""
    parser.add_argument("--type", metavar="TYPE", help="jobs of this type")
    parser.add_argument("--tenant", metavar="TENANT", help="jobs of this tenant")
    parser.add_argument("--state", type=states, metavar="S", help="jobs in these states (with commas)")
    parser.add_argument(
        "--since", type=moment, metavar="TIME", help="jobs made at or after (ISO 8601, or 15m ago: 15m)"
    )
    parser.add_argument("--until", type=moment, metavar="TIME", help="jobs made before")
    parser.add_argument("--handler-version", metavar="V", help="jobs that ran under this version= of their handler")


def has_query(options: argparse.Namespace) -> bool:
    """Whether jobs are asked for by what is known of them."""
    return any(getattr(options, name) is not None for name in QUERY)


def jobs(api: ApiClient, options: argparse.Namespace, *, queue: str | None) -> Iterator[dict[str, Any]]:
    """The live jobs that match, newest first, page after page."""
    query: dict[str, object] = {name: getattr(options, name) for name in ("type", "tenant", "state")}
    query |= {name: text_of(getattr(options, name)) for name in ("since", "until") if getattr(options, name)}
    cursor = None
    while True:
        answer = api.get("/v1/jobs", query | {"queue": queue, "limit": PAGE, "cursor": cursor})
        yield from (item for item in answer["items"] if _has_version(item, options.handler_version))
        cursor = answer.get("next_cursor")
        if not cursor:
            return


def choose(api: ApiClient, options: argparse.Namespace, names: TopicNames) -> dict[int, list[int]]:
    """The offsets of the matching jobs in the topic that is asked for, by partition."""
    topic = options.topic if options.topic.startswith(names.prefix) else names.prefix + options.topic
    role = names.role(topic)
    chosen: dict[int, list[int]] = {}
    elsewhere: Counter[str] = Counter()
    for count, item in enumerate(jobs(api, options, queue=role.queue if role is not None else None)):
        if count >= MAX_CHOSEN:
            raise CommandError(
                f"more than {MAX_CHOSEN} jobs match", code=ExitCode.USAGE, hint="--since and --until narrow"
            )
        if item["topic"] == topic:
            chosen.setdefault(item["partition"], []).append(item["offset"])
        else:
            elsewhere[item["topic"]] += 1
    if not chosen:
        others = ", ".join(f"{count} in {name}" for name, count in elsewhere.items())
        raise CommandError(
            f"no job in {topic} matches", code=ExitCode.NOT_FOUND, hint=f"there are {others}" if others else ""
        )
    return {partition: sorted(offsets) for partition, offsets in chosen.items()}


def _has_version(item: dict[str, Any], version: str | None) -> bool:
    return version is None or str((item.get("details") or {}).get("version")) == version
