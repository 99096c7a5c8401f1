"""Puts the flights on the log: `python -m examples.flights.feed [--limit N | --all]`.

Feeding can be stopped at any moment and run again: it goes on where it was and sends nothing twice. Nothing but the log
itself keeps the position. Each record says which row of the file it is (header `flights-row`), rows of one partition
are sent in order, so all rows up to the last one in a partition are there, and none after it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice

from aiokafka import AIOKafkaConsumer, TopicPartition

from examples.flights.app import app, assess_flight
from examples.flights.assess import Flight
from examples.flights.tables import DataMissing, flights
from logqueue import App
from logqueue.errors import LogqueueError
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.partitioning import partition_of
from logqueue.jobs.sending import PreparedJob

QUEUE = "flights"
ROW_HEADER = "flights-row"
DEFAULT_LIMIT = 20_000
CHUNK = 5_000  # flights that are sent, and confirmed, at once
LOOK_BACK = 500  # records that are read at once in search of the last row of a partition

Progress = Callable[[int, int], None]  # rows passed so far, and how many of them are new on the log


async def feed(app: App, *, limit: int | None = DEFAULT_LIMIT, progress: Progress | None = None) -> int:
    """Send those of the first `limit` flights (None: of all) that are not on the log; returns how many it sent."""
    topic = app.settings.topics.jobs(QUEUE)
    partitions = (await ensure_topics(app.settings, app.topic_specs()))[topic]
    last_rows = await _last_rows(app, topic, partitions)
    passed = sent = 0
    rows = islice(enumerate(flights()), limit)
    while chunk := list(islice(rows, CHUNK)):
        jobs = list(_missing(chunk, last_rows))
        sent += len(await app.send_many(jobs))
        passed += len(chunk)
        if progress is not None:
            progress(passed, sent)
    return sent


def _missing(chunk: list[tuple[int, Flight]], last_rows: list[int]) -> Iterator[PreparedJob]:
    for row, flight in chunk:
        if row > last_rows[partition_of(flight.carrier.encode(), len(last_rows))]:
            options = assess_flight.with_(tenant=flight.carrier, id=flight.id, headers={ROW_HEADER: str(row)})
            yield options.prepare(**asdict(flight))


async def _last_rows(app: App, topic: str, partitions: int) -> list[int]:
    """For every partition the last row that is on the log, or -1."""
    reader: AIOKafkaConsumer = await start_client(lambda: new_reader(app.settings), app.settings)
    try:
        return [await _last_row(reader, TopicPartition(topic, partition)) for partition in range(partitions)]
    finally:
        await stop_client(reader)


async def _last_row(reader: AIOKafkaConsumer, place: TopicPartition) -> int:
    """The row of the last of our records; other producers' records may follow it, so the search goes backwards."""
    reader.assign([place])
    begin = (await reader.beginning_offsets([place]))[place]
    end = (await reader.end_offsets([place]))[place]
    while end > begin:
        start = max(begin, end - LOOK_BACK)
        row = await _last_row_between(reader, place, start, end)
        if row is not None:
            return row
        end = start
    return -1


async def _last_row_between(reader: AIOKafkaConsumer, place: TopicPartition, start: int, end: int) -> int | None:
    found = None
    reader.seek(place, start)
    while await reader.position(place) < end:
        batches = await reader.getmany(timeout_ms=200)
        for record in batches.get(place, ()):
            row = dict(record.headers).get(ROW_HEADER, b"")
            if record.offset < end and row.isdigit():
                found = int(row)
    return found


async def _run(limit: int | None) -> None:
    async with app:
        total = 0

        def show(passed: int, sent: int) -> None:
            nonlocal total
            total = passed
            print(f"{passed:,} flights read, {sent:,} sent", flush=True)

        sent = await feed(app, limit=limit, progress=show)
        print(f"all {total:,} flights are on the log ({sent:,} sent now, {total - sent:,} were there)", flush=True)


def main() -> int:
    """The command line; exit code 0, 1 for an error with its reason on stderr, 130 when interrupted."""
    parser = argparse.ArgumentParser(description="Put the flights on the log, one job each.")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--limit", type=int, default=DEFAULT_LIMIT, help=f"the first N flights ({DEFAULT_LIMIT:,})")
    amount.add_argument("--all", action="store_true", help="every flight (336,776)")
    options = parser.parse_args()
    if options.limit < 0:
        parser.error("--limit must not be negative")
    # The client logs what it retries; what ends in failure is raised, and told below.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        asyncio.run(_run(None if options.all else options.limit))
    except (LogqueueError, DataMissing) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
