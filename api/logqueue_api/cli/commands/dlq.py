"""Dead letters: where there are any, what they are and why, sending them round again, closing them.

A replayed job keeps its id, its attempts begin again, and only the group that gave it up runs it. --topic reads what
another system left: Spring Kafka, Kafka Connect, Kafka Streams, share groups.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from logqueue_api.cli.actor import actor, add_by
from logqueue_api.cli.arguments import add_stack, count, moment, number
from logqueue_api.cli.exits import CommandError, ExitCode, UsageError
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.progress import ProgressLine
from logqueue_api.cli.record_view import is_deep, time_text, value_document
from logqueue_api.cli.stack import find_stack

if TYPE_CHECKING:
    from logqueue_consumers.control.rounds import Round
    from logqueue_consumers.letters.dead_letters import DeadLetter, DeadLetters, LetterFilter, LetterReplay

    from logqueue_api.cli.kafka import Log

CLASSES = ("transient", "permanent", "timeout", "crash", "undecodable", "unknown-type", "conflict")
"""`ErrorClass`, which is not imported for the help of an option."""
DEFAULT_LIMIT = 20
LARGEST_LIMIT = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|show|replay|discard")
    ls = verbs.add_parser("ls", help="the newest dead letters of a queue; without QUEUE, how many each queue has")
    ls.add_argument("queue", nargs="?", metavar="QUEUE")
    _add_filter(ls)
    ls.add_argument("--open", action="store_true", help="only those neither replayed nor discarded")
    ls.add_argument("-n", "--limit", type=count, default=DEFAULT_LIMIT, help=f"how many ({DEFAULT_LIMIT})")
    add_stack(ls)
    show = verbs.add_parser("show", help="one dead letter with its headers, reason and value")
    show.add_argument("queue", metavar="QUEUE")
    show.add_argument("letter", metavar="ID", help="job id, or PARTITION:OFFSET in the dead-letter topic")
    _add_place(show)
    add_stack(show)
    replay = verbs.add_parser("replay", help="send dead letters round again, oldest first")
    _add_choice(replay)
    replay.add_argument("--again", action="store_true", help="named letters that are closed already go round once more")
    replay.add_argument(
        "--rate", type=number, metavar="N", help="jobs a second (default: as fast as the log takes them)"
    )
    replay.add_argument(
        "--max-failed",
        type=number,
        default=0.5,
        metavar="SHARE",
        help="stop when more than this share fails again (0.5); of use with --rate: else up to 1,000 go at once",
    )
    replay.add_argument("--min-sample", type=count, default=20, metavar="N", help="... once this many have ended (20)")
    replay.add_argument("--args", metavar="JSON", help="other arguments, for the one job that is named")
    replay.add_argument("--as-type", metavar="TYPE", help="as this job type (parked jobs: job retry ID --as-type TYPE)")
    add_by(replay)
    add_stack(replay)
    discard = verbs.add_parser("discard", help="close dead letters without replaying them; they stay in their topic")
    _add_choice(discard)
    add_by(discard)
    add_stack(discard)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("queue", metavar="QUEUE")
    parser.add_argument("letters", nargs="*", metavar="ID", help="job ids, or PARTITION:OFFSET")
    _add_filter(parser)
    parser.add_argument("--all", action="store_true", help="every open one that matches the filters")
    parser.add_argument("-n", "--limit", type=count, help="at most this many")
    parser.add_argument("--dry-run", action="store_true", help="only say how many it would be")


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group", metavar="G", help="needed where several groups have dead letters of the queue")
    parser.add_argument("--topic", metavar="TOPIC", help="dead letters that another system left in this topic")


def _add_filter(parser: argparse.ArgumentParser) -> None:
    _add_place(parser)
    parser.add_argument("--since", type=moment, metavar="TIME", help="died at or after (ISO 8601, or 15m ago: 15m)")
    parser.add_argument("--until", type=moment, metavar="TIME", help="died before")
    parser.add_argument("--type", metavar="TYPE", help="only this job type")
    parser.add_argument("--tenant", metavar="TENANT", help="only this tenant")
    parser.add_argument("--error", metavar="ERROR", help="only this type of error, such as ValueError")
    parser.add_argument(
        "--class",
        dest="error_class",
        metavar="CLASS",
        choices=CLASSES,
        help="only this class of error: " + ", ".join(CLASSES),
    )


def run(options: argparse.Namespace) -> int:
    from logqueue_consumers.letters.choice import LettersClosed

    from logqueue_api.cli import kafka

    if options.verb in ("replay", "discard") and not (options.letters or options.all):
        raise UsageError("which dead letters?", hint="name ids, or --all for every one that matches the filters")
    if getattr(options, "again", False) and not options.letters:
        raise UsageError("--again is for letters that are named", hint="name ids")
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
            verb = {"ls": _ls, "show": _show, "replay": _replay, "discard": _discard}[options.verb]
            try:
                await verb(letters, options, output)
            except LettersClosed as error:
                hint = "--again replays them all the same" if options.verb == "replay" else ""
                raise CommandError(str(error), code=ExitCode.STATE, hint=hint) from None

    kafka.run(command())
    return ExitCode.OK


async def _queues(log: Log, output: Output) -> None:
    """Where there are dead letters, and how many; numbers are missing where a topic is too long to be counted."""
    from logqueue_consumers.letters.counts import count_letters

    names = log.settings.topics
    roles = {name: role for name in await log.topics() if (role := names.role(name)) and role.kind.value == "dlq"}
    counts = await count_letters(log.settings, roles)
    items = [
        {
            "queue": roles[name].queue,
            "group": roles[name].group,
            "open": found.open,
            "letters": found.letters,
            "offsets": found.offsets,
            "topic": name,
        }
        for name, found in sorted(counts.items())
    ]
    columns = [
        Column("queue", "QUEUE"),
        Column("group", "GROUP"),
        Column("open", "OPEN", right=True),
        Column("letters", "LETTERS", right=True),
        Column("offsets", "OFFSETS", right=True),
        Column("topic", "TOPIC"),
    ]
    output.items(items, columns, empty="no dead letters")


async def _letters(log: Log, options: argparse.Namespace) -> DeadLetters:
    """The dead letters of the queue; the group may be left out where only one has any."""
    from logqueue_consumers.letters.dead_letters import DeadLetters

    if options.topic is not None:
        if options.topic not in await log.topics():
            raise CommandError(f"the log has no topic {options.topic!r}", code=ExitCode.NOT_FOUND)
        if options.group is None and options.verb in ("replay", "discard"):
            raise UsageError("which group is to run these jobs?", hint="--group G")
        return DeadLetters(log.settings, queue=options.queue, group=options.group or "", topic=options.topic)
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


def _filter(options: argparse.Namespace, *, open_only: bool = True, letters: list[str]) -> LetterFilter:
    from logqueue_consumers.letters.dead_letters import LetterFilter

    places = {place for text in letters if (place := _place(text)) is not None}
    return LetterFilter(
        ids=frozenset(text for text in letters if _place(text) is None),
        positions=frozenset(places),
        type=options.type,
        tenant=options.tenant,
        error_type=options.error,
        error_class=options.error_class,
        since_ms=_ms(options.since),
        until_ms=_ms(options.until),
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
            item["closed"] = "" if letter.is_open else letter.status
    columns = [
        Column("id", "ID"),
        Column("type", "TYPE"),
        Column("tenant", "TENANT"),
        Column("died_at", "DIED"),
        Column("attempt", "ATTEMPT", right=True),
        Column("closed", "CLOSED"),
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
    items = [_document(letter) | {"value": await _value(letters, value)} for letter, value in found]
    if output.is_json:
        output.document({"items": items})
        return
    for item in items:
        del item["preview"]
        item["headers"] = "\n".join(f"{name}: {text}" for name, text in item["headers"].items())
        output.record(item)
        output.line()


async def _replay(letters: DeadLetters, options: argparse.Namespace, output: Output) -> None:
    from logqueue_consumers.letters.dead_letters import Pace

    where = _filter(options, letters=options.letters)
    edit = await _edit(letters, options)
    pace = Pace(rate=options.rate, max_failed_share=options.max_failed, min_sample=options.min_sample)
    with ProgressLine("replay") as line:
        done = await letters.replay(
            where,
            by=actor(options),
            limit=options.limit,
            dry_run=options.dry_run,
            again=options.again,
            pace=pace,
            edit=edit,
            on_progress=lambda now: line.show(_counts(now)),
        )
    _tell(letters, done, options, output, verb="replayed")
    if done.stopped is not None:
        raise CommandError(f"stopped: {done.stopped}", code=ExitCode.FAILED)


async def _discard(letters: DeadLetters, options: argparse.Namespace, output: Output) -> None:
    where = _filter(options, letters=options.letters)
    done = await letters.discard(where, by=actor(options), limit=options.limit, dry_run=options.dry_run)
    _tell(letters, done, options, output, verb="discarded")


def _tell(letters: DeadLetters, done: LetterReplay, options: argparse.Namespace, output: Output, *, verb: str) -> None:
    if options.letters and not done.matched:
        raise CommandError(f"{letters.topic} holds none of these letters", code=ExitCode.NOT_FOUND)
    told = f"{done.matched} would be {verb}" if done.is_dry_run else f"{done.replayed} {verb}"
    if done.own:
        told += f"; conflicts run as jobs of their own: {', '.join(done.own)}"
    if done.ended:
        told += f"; {done.ended} left alone: their jobs have succeeded since"
    counts: dict[str, Any] = ({"own": done.own} if done.own else {}) | ({"ended": done.ended} if done.ended else {})
    counts |= {"matched": done.matched, verb: done.replayed, "succeeded": done.succeeded, "failed": done.failed}
    output.event({"topic": letters.topic, **counts, "stopped": done.stopped, "dry_run": done.is_dry_run}, told)


def _counts(done: LetterReplay) -> dict[str, int]:
    return {
        "matched": done.matched,
        "replayed": done.replayed,
        "succeeded": done.succeeded,
        "failed again": done.failed,
    }


def _new_arguments(options: argparse.Namespace) -> dict[str, Any] | None:
    if options.args is None:
        return None
    if len(options.letters) != 1:
        raise UsageError("--args is for one job", hint="name its id")
    try:
        value = json.loads(options.args)
    except ValueError as error:
        raise UsageError(f"--args is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError("--args is no JSON object")
    return value


async def _edit(letters: DeadLetters, options: argparse.Namespace) -> Callable[[Round], Round] | None:
    """What changes a job on its way, checked against what the workers of its queue have published."""
    arguments = _new_arguments(options)
    if arguments is None and options.as_type is None:
        return None
    from logqueue_api.rest.catalogue import Catalogue
    from logqueue_api.rest.letter_edit import letter_edit
    from logqueue_api.rest.problems import Problem

    catalogue = Catalogue(await letters.definitions())
    try:
        edit = letter_edit(catalogue, queue=options.queue, args=arguments, as_type=options.as_type)
    except Problem as problem:
        raise UsageError(problem.detail) from None

    def checked(job: Round) -> Round:
        assert edit is not None, "something is to be changed"
        try:
            return edit(job)
        except Problem as problem:
            raise UsageError(f"{problem.detail}; nothing was replayed") from None

    return checked


async def _value(letters: DeadLetters, value: bytes | None) -> Any:
    decoded = await letters.read_value(value)
    return value_document(value) if decoded is None or is_deep(decoded) else decoded


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


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
        "status": letter.status,
        "system": letter.system,
        "died_at": time_text(letter.died_ms),
        "error": {"type": letter.error_type, "message": letter.error_message, "class": letter.error_class},
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "origin": {"topic": letter.origin_topic, "partition": letter.origin_partition, "offset": letter.origin_offset},
        "preview": letter.preview,
        "headers": letter.headers,
    }
