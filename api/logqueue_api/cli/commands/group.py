"""Consumer groups of the log: list them, describe one."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from logqueue_api.cli.arguments import add_stack
from logqueue_api.cli.exits import CommandError, ExitCode
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.stack import find_stack

if TYPE_CHECKING:
    from aiokafka import TopicPartition

    from logqueue_api.cli.kafka import Log

T = TypeVar("T")

DEAD = "Dead"  # what DescribeGroups answers for a group that is not there
AT_ONCE = 32
"""Groups that are asked about at the same time."""
PATIENCE_S = (3.0, 10.0, 30.0)
"""How long partitions are asked what they hold, time after time. aiokafka would ask for 40 s for a topic that was
deleted a moment ago."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|describe")
    ls = verbs.add_parser("ls", help="list consumer groups")
    add_stack(ls)
    describe = verbs.add_parser("describe", help="members, committed offsets and lag of a group")
    describe.add_argument("group", metavar="GROUP")
    add_stack(describe)


def run(options: argparse.Namespace) -> int:
    from logqueue_api.cli import kafka

    verb = {"ls": _ls, "describe": _describe}[options.verb]
    stack = find_stack(options)

    async def command() -> None:
        async with kafka.Log(stack) as log:
            await verb(log, options, Output(is_json=options.json))

    kafka.run(command())
    return ExitCode.OK


async def _ls(log: Log, options: argparse.Namespace, output: Output) -> None:
    names = sorted(group[0] for group in await log.admin.list_consumer_groups())
    items = await _groups(log, names)
    columns = [
        Column("group", "GROUP"),
        Column("state", "STATE"),
        Column("members", "MEMBERS", right=True),
        Column("lag", "LAG", right=True),
    ]
    brief = [item | {"members": len(item["members"])} for item in items]
    for item in brief:
        del item["partitions"]
    output.items(brief, columns, empty="no groups yet")


async def _describe(log: Log, options: argparse.Namespace, output: Output) -> None:
    (group,) = await _groups(log, [options.group])
    if group["state"] == DEAD and not group["partitions"]:
        raise CommandError(
            f"there is no group {options.group!r}", code=ExitCode.NOT_FOUND, hint="`logqueue group ls` lists them"
        )
    if output.is_json:
        output.document(group)
        return
    output.record({key: group[key] for key in ("group", "state", "lag", "incomplete")})
    output.line()
    output.items(
        group["members"],
        [Column("member", "MEMBER"), Column("client", "CLIENT"), Column("host", "HOST")],
        empty="no members",
    )
    output.line()
    columns = [
        Column("topic", "TOPIC"),
        Column("partition", "PARTITION", right=True),
        Column("committed", "COMMITTED", right=True),
        Column("end", "END", right=True),
        Column("lag", "LAG", right=True),
        Column("incomplete", "INCOMPLETE", right=True),
    ]
    output.items(group["partitions"], columns, empty="nothing committed yet")


async def _groups(log: Log, names: Sequence[str]) -> list[dict[str, Any]]:
    """Groups as JSON; for `lag` and `incomplete` see `commits.group_progress.Behind`."""

    async def describe(name: str) -> Any:
        answers = await log.admin.describe_consumer_groups([name])  # aiokafka cannot read an answer about two
        return answers[0].groups[0]

    committed = dict(zip(names, await _each(log.offsets, names), strict=True))
    described = await _each(describe, names)
    starts: dict[TopicPartition, int] = {}
    ends: dict[TopicPartition, int] = {}
    await _learn(log, set().union(*committed.values()), starts, ends)
    items = []
    for name, (_code, _name, state, _type, _protocol, members, *_) in zip(names, described, strict=True):
        partitions = [
            _partition(place, *committed[name][place], start=starts[place], end=ends[place])
            for place in sorted(committed[name])
            if place in ends
        ]
        items.append(
            {
                "group": name,
                "state": state,
                "members": [{"member": m[0], "client": m[1], "host": m[2].lstrip("/")} for m in members],
                "lag": sum(part["lag"] for part in partitions),
                "incomplete": sum(part["incomplete"] for part in partitions),
                "partitions": partitions,
            }
        )
    return items


async def _each(ask: Callable[[str], Awaitable[T]], names: Sequence[str]) -> list[T]:
    """What the log answers about each name, some asked at a time: there may be thousands."""
    found: list[T] = []
    for start in range(0, len(names), AT_ONCE):
        found += await asyncio.gather(*map(ask, names[start : start + AT_ONCE]))
    return found


async def _learn(
    log: Log, places: Iterable[TopicPartition], starts: dict[TopicPartition, int], ends: dict[TopicPartition, int]
) -> None:
    """Learn what partitions hold; those that are not there, or have no leader, are left out."""
    for patience_s in PATIENCE_S:
        present = await log.topics()
        led = [
            place
            for place in sorted(places)
            if place.partition < len(leaders := present.get(place.topic, ())) and leaders[place.partition] >= 0
        ]
        if not led:
            return
        try:
            async with asyncio.timeout(patience_s):
                begins, known = await log.bounds(led)
                starts.update(begins)
                ends.update(known)
                return
        except TimeoutError:
            continue  # for a topic that was deleted meanwhile
    raise CommandError(
        f"the log did not say within {PATIENCE_S[-1]:g} s what {led[0].topic} holds", code=ExitCode.UNREACHABLE
    )


def _partition(place: TopicPartition, committed: int, metadata: str | None, *, start: int, end: int) -> dict[str, Any]:
    from logqueue_consumers.commits.group_progress import behind

    left = behind(start=start, end=end, committed=committed, metadata=metadata or "")
    return {
        "topic": place.topic,
        "partition": place.partition,
        "committed": committed,
        "end": end,
        "lag": left.lag,
        "incomplete": left.incomplete,
    }
