"""Consumer groups of the log: list them, describe one."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from logqueue_api.cli.arguments import add_stack
from logqueue_api.cli.exits import CommandError, ExitCode
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.stack import find_stack

if TYPE_CHECKING:
    from aiokafka import TopicPartition

    from logqueue_api.cli.kafka import Log

DEAD = "Dead"  # what DescribeGroups answers for a group that is not there
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
    present = await log.topics()
    starts: dict[TopicPartition, int] = {}
    ends: dict[TopicPartition, int] = {}
    committed = {}
    for name in names:
        committed[name] = await log.offsets(name)
        present = await _learn(log, committed[name].keys() - ends.keys(), present, starts, ends)
    items = []
    for name in names:  # one by one: aiokafka cannot read an answer about two
        described = (await log.admin.describe_consumer_groups([name]))[0].groups[0]
        _code, _name, state, _type, _protocol, members, *_ = described
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


async def _learn(
    log: Log,
    places: Iterable[TopicPartition],
    present: dict[str, list[int]],
    starts: dict[TopicPartition, int],
    ends: dict[TopicPartition, int],
) -> dict[str, list[int]]:
    """Learn what partitions hold; those that are not there, or have no leader, are left out. The topics as of now."""
    for patience_s in PATIENCE_S:
        led = [
            place
            for place in sorted(places)
            if place.partition < len(leaders := present.get(place.topic, ())) and leaders[place.partition] >= 0
        ]
        if not led:
            return present
        try:
            async with asyncio.timeout(patience_s):
                begins = await log.consumer.beginning_offsets(led)
                ends.update(await log.consumer.end_offsets(led))
                starts.update(begins)
                return present
        except TimeoutError:
            present = await log.topics()
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
