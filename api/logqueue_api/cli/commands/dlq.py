"""Dead letters: where there are any, what they are and why, and sending them round again.

A replayed job keeps its id, its attempts begin again, and only the group that gave it up runs it.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from logqueue_api.cli.arguments import add_stack, count
from logqueue_api.cli.exits import CommandError, ExitCode, UsageError
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.record_view import time_text, value_document
from logqueue_api.cli.stack import find_stack

if TYPE_CHECKING:
    from logqueue_consumers.dead_letters import DeadLetter, DeadLetters, LetterFilter

    from logqueue_api.cli.kafka import Log

DEFAULT_LIMIT = 20
LARGEST_LIMIT = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|show|replay")
    ls = verbs.add_parser("ls", help="the newest dead letters of a queue; without QUEUE, how many each queue has")
    ls.add_argument("queue", nargs="?", metavar="QUEUE")
    _add_filter(ls)
    ls.add_argument("--open", action="store_true", help="only those that were not replayed yet")
    ls.add_argument("-n", "--limit", type=count, default=DEFAULT_LIMIT, help=f"how many ({DEFAULT_LIMIT})")
    add_stack(ls)
    show = verbs.add_parser("show", help="one dead letter with its headers, reason and value")
    show.add_argument("queue", metavar="QUEUE")
    show.add_argument("letter", metavar="ID", help="job id, or PARTITION:OFFSET in the dead-letter topic")
    show.add_argument("--group", metavar="G", help="needed where several groups have dead letters of the queue")
    add_stack(show)
    replay = verbs.add_parser("replay", help="send dead letters round again, oldest first")
    replay.add_argument("queue", metavar="QUEUE")
    replay.add_argument("letters", nargs="*", metavar="ID", help="job ids, or PARTITION:OFFSET")
    _add_filter(replay)
    replay.add_argument("--all", action="store_true", help="every open one that matches the filters")
    replay.add_argument("-n", "--limit", type=count, help="at most this many")
    replay.add_argument("--dry-run", action="store_true", help="only say how many it would be")
    add_stack(replay)


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group", metavar="G", help="needed where several groups have dead letters of the queue")
    parser.add_argument("--type", metavar="TYPE", help="only this job type")
    parser.add_argument("--tenant", metavar="TENANT", help="only this tenant")
    parser.add_argument("--error", metavar="ERROR", help="only this type of error, such as ValueError")
    parser.add_argument(
        "--class",
        dest="error_class",
        metavar="CLASS",
        help="transient, permanent, timeout, crash, undecodable, unknown-type",
    )


def run(options: argparse.Namespace) -> int:
    from logqueue_api.cli import kafka

    if options.verb == "replay" and not (options.letters or options.all):
        raise UsageError("which dead letters?", hint="name ids, or --all for every one that matches the filters")
    if (getattr(options, "limit", None) or 0) > LARGEST_LIMIT:
        raise UsageError(f"--limit {options.limit} is more than {LARGEST_LIMIT}")
    stack = find_stack(options)
    output = Output(is_json=options.json)

    async def command() -> None:
        async with kafka.Log(stack) as log:
            if options.verb == "ls" and options.queue is None:
                await _queues(log, output)
                return
            letters = await _letters(log, options)
            verb = {"ls": _ls, "show": _show, "replay": _replay}[options.verb]
            await verb(letters, options, output)

    kafka.run(command())
    return ExitCode.OK


async def _queues(log: Log, output: Output) -> None:
    topics = await log.topics()
    roles = {name: role for name in topics if (role := log.settings.topics.role(name)) and role.kind.value == "dlq"}
    ranges = await log.ranges({name: topics[name] for name in sorted(roles)})
    items = [
        {
            "queue": roles[name].queue,
            "group": roles[name].group,
            "records": sum(part.end - part.start for part in parts),
            "topic": name,
        }
        for name, parts in ranges.items()
    ]
    columns = [Column("queue", "QUEUE"), Column("group", "GROUP"), Column("records", "RECORDS", right=True)]
    output.items(items, [*columns, Column("topic", "TOPIC")], empty="no dead letters")


async def _letters(log: Log, options: argparse.Namespace) -> DeadLetters:
    """The dead letters of the queue; the group may be left out where only one has any."""
    from logqueue_consumers.dead_letters import DeadLetters

    roles = [role for name in await log.topics() if (role := log.settings.topics.role(name)) is not None]
    groups = sorted({r.group for r in roles if r.kind.value == "dlq" and r.queue == options.queue and r.group})
    if not any(role.queue == options.queue for role in roles):
        known = ", ".join(sorted({role.queue for role in roles if role.queue})) or "none"
        raise CommandError(
            f"there is no queue {options.queue!r}", code=ExitCode.NOT_FOUND, hint=f"the queues are: {known}"
        )
    if options.group is not None and options.group not in groups:
        raise CommandError(
            f"group {options.group!r} has no dead letters of queue {options.queue!r}",
            code=ExitCode.NOT_FOUND,
            hint=f"groups that have: {', '.join(groups) or 'none'}",
        )
    if options.group is None and len(groups) != 1:
        if not groups:
            raise CommandError(f"queue {options.queue!r} has no dead letters", code=ExitCode.NOT_FOUND)
        raise UsageError(
            f"several groups have dead letters of queue {options.queue!r}: {', '.join(groups)}", hint="--group G"
        )
    return DeadLetters(log.settings, queue=options.queue, group=options.group or groups[0])


def _filter(options: argparse.Namespace, *, open_only: bool, letters: list[str]) -> LetterFilter:
    from logqueue_consumers.dead_letters import LetterFilter

    places = {place for text in letters if (place := _place(text)) is not None}
    return LetterFilter(
        ids=frozenset(text for text in letters if _place(text) is None),
        positions=frozenset(places),
        type=options.type,
        tenant=options.tenant,
        error_type=options.error,
        error_class=options.error_class,
        open_only=open_only,
    )


def _place(text: str) -> tuple[int, int] | None:
    partition, colon, offset = text.partition(":")
    return (int(partition), int(offset)) if colon and partition.isdecimal() and offset.isdecimal() else None


async def _ls(letters: DeadLetters, options: argparse.Namespace, output: Output) -> None:
    found = await letters.newest(_filter(options, open_only=options.open, letters=[]), limit=options.limit)
    items = [_document(letter) for letter in found]
    if not output.is_json:
        for item, letter in zip(items, found, strict=True):
            item["why"] = ": ".join(part for part in (letter.error_type, letter.error_message) if part)
            item["replayed"] = "" if letter.is_open else "yes"
    columns = [
        Column("id", "ID"),
        Column("type", "TYPE"),
        Column("tenant", "TENANT"),
        Column("died_at", "DIED"),
        Column("attempt", "ATTEMPT", right=True),
        Column("replayed", "REPLAYED"),
        Column("why", "ERROR"),
    ]
    output.items(items, columns, empty="no dead letters")


async def _show(letters: DeadLetters, options: argparse.Namespace, output: Output) -> None:
    found = await letters.show(options.letter)
    if not found:
        raise CommandError(
            f"{letters.topic} holds no letter {options.letter!r}",
            code=ExitCode.NOT_FOUND,
            hint="`logqueue dlq ls` lists them",
        )
    items = [_document(letter) | {"value": value_document(value)} for letter, value in found]
    if output.is_json:
        output.document({"items": items})
        return
    for item in items:
        del item["preview"]
        item["headers"] = "\n".join(f"{name}: {text}" for name, text in item["headers"].items())
        output.record(item)
        output.line()


async def _replay(letters: DeadLetters, options: argparse.Namespace, output: Output) -> None:
    # A letter that is named is meant, replayed before or not.
    where = _filter(options, open_only=not options.letters, letters=options.letters)
    done = await letters.replay(where, limit=options.limit, dry_run=options.dry_run)
    if options.letters and not done.matched:
        raise CommandError(f"{letters.topic} holds none of these letters", code=ExitCode.NOT_FOUND)
    told = f"{done.matched} would be replayed" if done.is_dry_run else f"{done.replayed} replayed"
    output.event(
        {"topic": letters.topic, "matched": done.matched, "replayed": done.replayed, "dry_run": done.is_dry_run}, told
    )


def _document(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "type": letter.type,
        "tenant": letter.tenant,
        "queue": letter.queue,
        "group": letter.group,
        "attempt": letter.attempt,
        "replay": letter.replay,
        "is_open": letter.is_open,
        "died_at": time_text(letter.died_ms),
        "error": {"type": letter.error_type, "message": letter.error_message, "class": letter.error_class},
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "origin": {"topic": letter.origin_topic, "partition": letter.origin_partition, "offset": letter.origin_offset},
        "preview": letter.preview,
        "headers": letter.headers,
    }
