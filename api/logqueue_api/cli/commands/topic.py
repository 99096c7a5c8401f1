"""Topics of the log: list them, describe one, read its records."""

from __future__ import annotations

import argparse
from itertools import chain
from typing import TYPE_CHECKING, Any

from logqueue_api.cli.arguments import add_stack, count, partition_list, position, seconds
from logqueue_api.cli.exits import ExitCode, UsageError
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.stack import find_stack

if TYPE_CHECKING:
    from logqueue_api.cli.kafka import Log, PartitionRange

DEFAULT_TAIL = 10
IDLE_SECONDS = 2.0
DYNAMIC_TOPIC_CONFIG = 1  # DescribeConfigs: set on the topic itself


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|describe|tail")
    ls = verbs.add_parser(
        "ls",
        help="list topics",
        description="OFFSETS are from a topic's start to its end: its records, the markers of transactions, and what "
        "compaction has removed.",
    )
    ls.add_argument("--all", action="store_true", help="also internal topics (__consumer_offsets ...)")
    add_stack(ls)
    describe = verbs.add_parser("describe", help="partitions, offsets and configuration of a topic")
    describe.add_argument("topic", metavar="TOPIC")
    add_stack(describe)
    tail = verbs.add_parser("tail", help="the last records of a topic")
    tail.add_argument("topic", metavar="TOPIC")
    tail.add_argument("-n", dest="number", type=count, default=DEFAULT_TAIL, help=f"how many ({DEFAULT_TAIL})")
    tail.add_argument("-f", "--follow", action="store_true", help="go on with new records until Ctrl-C")
    tail.add_argument("--from", dest="start", type=position, metavar="OFFSET|TIME", help="from here instead of the end")
    tail.add_argument("--partitions", type=partition_list, metavar="0,3", help="only these partitions")
    tail.add_argument(
        "--idle", type=seconds, default=IDLE_SECONDS, help="give up after this long without a record (2s)"
    )
    add_stack(tail)


def run(options: argparse.Namespace) -> int:
    from logqueue_api.cli import kafka

    verb = {"ls": _ls, "describe": _describe, "tail": _tail}[options.verb]
    stack = find_stack(options)

    async def command() -> None:
        async with kafka.Log(stack) as log:
            await verb(log, options, Output(is_json=options.json))

    kafka.run(command())
    return ExitCode.OK


async def _ls(log: Log, options: argparse.Namespace, output: Output) -> None:
    names = log.settings.topics
    topics = await log.topics()
    shown = {name: topics[name] for name in sorted(topics) if options.all or not name.startswith("__")}
    ranges = await log.ranges(shown)
    items = []
    for name, parts in ranges.items():
        role = names.role(name)
        offsets = sum(part.end - part.start for part in parts)
        items.append(
            {"topic": name, "partitions": len(parts), "offsets": offsets, "kind": role.kind.value if role else None}
        )
    columns = [
        Column("topic", "TOPIC"),
        Column("partitions", "PARTITIONS", right=True),
        Column("offsets", "OFFSETS", right=True),
        Column("kind", "KIND"),
    ]
    output.items(items, columns, empty="no topics yet")


async def _describe(log: Log, options: argparse.Namespace, output: Output) -> None:
    parts = await log.topic(options.topic)
    configs = await log.configs(options.topic)
    partitions = [
        {"partition": p.partition, "start_offset": p.start, "end_offset": p.end, "leader": p.leader} for p in parts
    ]
    if output.is_json:
        values = {entry["name"]: entry["value"] for entry in configs}
        output.document({"topic": options.topic, "partitions": partitions, "configs": values})
        return
    own = {entry["name"]: entry["value"] for entry in configs if entry["source"] == DYNAMIC_TOPIC_CONFIG}
    output.record({"topic": options.topic, "offsets": sum(p.end - p.start for p in parts)} | own)
    output.line()
    output.items(
        partitions,
        [
            Column("partition", "PARTITION", right=True),
            Column("start_offset", "START", right=True),
            Column("end_offset", "END", right=True),
            Column("leader", "LEADER", right=True),
        ],
        empty="no partitions",
    )


async def _tail(log: Log, options: argparse.Namespace, output: Output) -> None:
    """No more of a partition is held than is asked for; what --follow reads from a --from is told as it comes."""
    from aiokafka import TopicPartition

    from logqueue_api.cli.record_view import record_document, record_line

    parts = await _chosen(log, options)
    consumer = log.consumer
    starts = await _starts(log, options, parts)
    ends = {TopicPartition(options.topic, part.partition): part.end for part in parts}
    consumer.assign(list(starts))
    for place, offset in starts.items():
        consumer.seek(place, offset)
    is_told_at_once = options.follow and options.start is not None
    waiting = set() if is_told_at_once else {place for place, end in ends.items() if starts[place] < end}
    room = dict.fromkeys(waiting, options.number)
    held: list[Any] = []
    while waiting:
        batches = await consumer.getmany(timeout_ms=round(options.idle * 1000), max_records=1000)
        if not batches:
            break  # what is missing was deleted, or belongs to a transaction that was aborted
        for place, records in batches.items():
            held += records
            room[place] -= len(records)
            if records[-1].offset >= ends[place] - 1 or room[place] <= 0:
                waiting.discard(place)
                consumer.pause(place)
    held.sort(key=_by_time)
    for record in held[: options.number] if options.start is not None else held[-options.number :]:
        output.event(record_document(record), record_line(record))
    consumer.resume(*room)
    while options.follow:
        batches = await consumer.getmany(timeout_ms=1000)
        for record in sorted(chain.from_iterable(batches.values()), key=_by_time):
            output.event(record_document(record), record_line(record))


def _by_time(record: Any) -> tuple[int, int, int]:
    return record.timestamp, record.partition, record.offset


async def _chosen(log: Log, options: argparse.Namespace) -> list[PartitionRange]:
    parts = await log.topic(options.topic)
    if options.partitions is None:
        return parts
    unknown = set(options.partitions) - {part.partition for part in parts}
    if unknown:
        raise UsageError(f"topic {options.topic} has no partition {min(unknown)}", hint=f"it has {len(parts)}, from 0")
    return [part for part in parts if part.partition in options.partitions]


async def _starts(log: Log, options: argparse.Namespace, parts: list[PartitionRange]) -> dict[Any, int]:
    """Where to begin: at --from, else far enough before the end that the last N are among what is read."""
    from aiokafka import TopicPartition

    places = {TopicPartition(options.topic, part.partition): part for part in parts}
    if options.start is None:
        return {place: max(part.start, part.end - options.number) for place, part in places.items()}
    offsets = await log.offsets_at(options.topic, parts, options.start)
    return {TopicPartition(options.topic, number): offset for number, offset in offsets.items()}
