"""Write jobs to a file that a test can run a handler on: one job by its id, or all that match a query.

    logqueue export 0198c2... -o cases/invoice-4711.jsonl
    logqueue export --type invoice.make --since 1h --state dead -o cases/dead.jsonl

A job whose arguments an operator has changed (dlq replay --args) is written with those that its result is of.
In pytest the fixture `logqueue_case` loads such a file: logqueue_case("cases/invoice-4711.jsonl").run(app).
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logqueue_api.cli.api_client import ApiClient, quoted
from logqueue_api.cli.arguments import add_stack, count
from logqueue_api.cli.exits import CommandError, ExitCode, UsageError
from logqueue_api.cli.job_query import add_query, has_query, jobs
from logqueue_api.cli.output import Output
from logqueue_api.cli.stack import Stack, find_stack

if TYPE_CHECKING:
    from logqueue.jobs.case_file import CaseRecord
    from logqueue.jobs.schema_source import Registry

DEFAULT_LIMIT = 100
LARGEST = 100_000
READ_SECONDS = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help="jobs by their ids")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="where to write (JSON lines)")
    parser.add_argument("-q", "--queue", metavar="QUEUE", help="jobs of this queue")
    add_query(parser)
    parser.add_argument("-n", "--limit", type=count, default=DEFAULT_LIMIT, help=f"how many at most ({DEFAULT_LIMIT})")
    add_stack(parser)


def run(options: argparse.Namespace) -> int:
    is_query = has_query(options) or options.queue is not None
    if bool(options.ids) == is_query:
        raise UsageError("which jobs?", hint="ids, or a query such as --type T --since 1h; not both")
    if options.limit > LARGEST:
        raise UsageError(f"--limit {options.limit} is more than {LARGEST}")
    if not options.out.parent.is_dir():
        raise UsageError(f"-o {options.out}: there is no folder {options.out.parent}")
    stack = find_stack(options)
    items = list(islice(_items(ApiClient(stack), options), options.limit))
    if not items:
        raise CommandError("no job matches", code=ExitCode.NOT_FOUND)
    from logqueue_api.cli import kafka

    cases, gone = kafka.run(_read(stack, items))
    known = [case for case in cases if case is not None]
    unknown = len(cases) - len(known)
    _write(options.out, known)
    Output(is_json=options.json).event(
        {"file": str(options.out), "jobs": len(known), "gone": gone, "unknown": unknown},
        f"{len(known)} {'job' if len(known) == 1 else 'jobs'} written to {options.out}"
        + (f"; the log no longer holds {gone}" if gone else "")
        + (f"; {unknown} left out: they ran with changed arguments that are too large to be known" if unknown else ""),
    )
    return ExitCode.OK if known else ExitCode.NOT_FOUND


def _items(api: ApiClient, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    if options.ids:
        return (api.get(f"/v1/jobs/{quoted(id_)}") for id_ in options.ids)
    return jobs(api, options, queue=options.queue)


async def _read(stack: Stack, items: Sequence[dict[str, Any]]) -> tuple[list[CaseRecord | None], int]:
    """The records of these jobs with what is known of them (None: not enough), and how many the log no longer holds."""
    from aiokafka import TopicPartition

    from logqueue.jobs.schema_source import open_registry
    from logqueue_api.cli import kafka

    places: dict[TopicPartition, dict[int, dict[str, Any]]] = defaultdict(dict)
    for item in items:
        places[TopicPartition(item["topic"], item["partition"])][item["offset"]] = item
    cases: dict[str, CaseRecord | None] = {}
    async with kafka.Log(stack) as log:
        registry = open_registry(log.settings)
        await registry.refresh()
        for tp, wanted in places.items():
            found = await _records(log.consumer, tp, sorted(wanted))
            cases |= {wanted[record.offset]["id"]: _case(record, wanted[record.offset], registry) for record in found}
    ids = dict.fromkeys(item["id"] for item in items)
    return [cases[id_] for id_ in ids if id_ in cases], len(ids) - len(cases)


async def _records(consumer: Any, tp: Any, offsets: Sequence[int]) -> list[Any]:
    """The records at these offsets, as far as the log holds them."""
    consumer.assign([tp])
    start, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
    records: list[Any] = []
    for offset in offsets:
        if not start <= offset < end:
            continue
        consumer.seek(tp, offset)
        async with asyncio.timeout(READ_SECONDS):
            record = await consumer.getone(tp)
        if record.offset == offset:
            records.append(record)
    return records


def _case(record: Any, item: dict[str, Any], registry: Registry) -> CaseRecord | None:
    """The job as it ended so: with what an operator has changed of its first record; None where that is not known."""
    from logqueue.jobs.case_file import CaseEnding, CaseRecord

    recorded = CaseEnding(
        state=item["state"],
        result=item.get("result"),
        error=item.get("error"),
        details=item.get("details") or {},
        attempt=item["attempt"],
        group=item.get("group"),
    )
    args, value, headers = _arguments(record, registry), record.value, _headers(record.headers)
    edited = (item.get("details") or {}).get("edited") or {}
    if "args" in edited:
        if edited["args"] is None:
            return None
        args, value = edited["args"], json.dumps(edited["args"]).encode()
        headers = _with_header(headers, "content-type", "application/json")
    if "type" in edited:
        headers = _with_header(headers, "ce_type", edited["type"])
    return CaseRecord(
        id=item["id"],
        type=edited.get("type", item["type"]),
        queue=item["queue"],
        tenant=item["tenant"],
        created_ms=record.timestamp,
        replay=item["replay"],
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        args=args,
        value=value,
        headers=headers,
        recorded=recorded,
    )


def _headers(headers: Iterable[tuple[str, bytes | None]]) -> list[tuple[str, bytes]]:
    """Those that say something: a null header has no place in a case."""
    return [(name, value) for name, value in headers if value is not None]


def _with_header(headers: Iterable[tuple[str, bytes]], name: str, text: str) -> list[tuple[str, bytes]]:
    return [*(pair for pair in headers if pair[0] != name), (name, text.encode())]


def _arguments(record: Any, registry: Registry) -> dict[str, Any] | None:
    """The arguments as JSON values; None where the value cannot be decoded."""
    import msgspec
    from logqueue_schemas.framing import read_frame

    value = record.value or b""
    try:
        if value[:1] != b"\x00":
            found = msgspec.json.decode(value)
        else:
            schema_id, body = read_frame(value)
            decode = registry.decoder_of(schema_id)
            found = None if decode is None else msgspec.to_builtins(decode(body), str_keys=True)
    except (ValueError, RecursionError, EOFError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, cases: Sequence[CaseRecord]) -> None:
    from logqueue.jobs.case_file import write_line

    try:
        path.write_bytes(b"".join(write_line(case) for case in cases))
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", code=ExitCode.FAILED) from error
