"""Dead letters of a group: list, show, send round again, discard. Shell over a group-less reader and a producer.

A dead letter stays in its topic for ever; what an operator did with it is an event in `jobs.control`, with the key
`dead-letter/<topic>/<partition>/<offset>`, and in `jobs.audit`. A letter is open until it was replayed or discarded.
A job goes round once however many letters it has, and under a number that it never went round with before.
Replaying writes the original bytes to the group's own retry topic (so no other group runs it), due at once, under the
same id, with `job-replay` one higher and the attempt reset. With `topic`, the letters are those that another system
left in a topic of its own.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Self

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from logqueue_schemas.framing import InvalidFrame, read_frame
from logqueue_schemas.job_status import InvalidStatus, StatusCodec

from logqueue.clock import Clock, SystemClock
from logqueue.errors import LogqueueError
from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.control import DEFINITION, Command
from logqueue.jobs.schema_source import open_registry
from logqueue.jobs.settings import Settings
from logqueue_consumers.control.command_writer import CommandWriter
from logqueue_consumers.control.pace import STEP_S, Pace, Tally
from logqueue_consumers.control.rounds import Round, round_records
from logqueue_consumers.letters.choice import ChosenJob, LetterChoice, LettersClosed
from logqueue_consumers.letters.ends import succeeded_since
from logqueue_consumers.letters.letter import (
    DISCARDED,
    REPLAYED,
    DeadLetter,
    Deeds,
    LetterFilter,
    read_letter,
    round_of,
)
from logqueue_consumers.topics.listing import partition_counts
from logqueue_consumers.topics.scan import read_to_end

__all__ = [
    "DeadLetter",
    "DeadLetters",
    "DeadLettersUnreadable",
    "LetterFilter",
    "LetterReplay",
    "LettersClosed",
    "Pace",
    "read_position",
]

MAX_LISTED = 10_000
MAX_CHOSEN = 100_000
"""Letters that one replay or discard takes: their places are kept in memory."""
TOLD_IDS = 20
MAX_CHOSEN_BYTES = 256 * 1024 * 1024
_POSITION = re.compile(r"(\d{1,10}):(\d{1,18})", re.ASCII)

Edit = Callable[[Round], Round]


class DeadLettersUnreadable(LogqueueError):
    """The dead letters cannot be read now; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterReplay:
    """What a replay of dead letters did, or would do. `stopped` says why it ended before all were sent."""

    matched: int
    replayed: int
    is_dry_run: bool
    succeeded: int = 0
    """Of the replayed, as far as was known at the end."""
    failed: int = 0
    stopped: str | None = None
    own: tuple[str, ...] = ()
    """Ids of conflicts, which run as jobs of their own (the first TOLD_IDS of them)."""
    ended: int = 0
    """Jobs that filters met and that were left alone: they have succeeded since their letter."""


class DeadLetters:
    """The dead letters of one queue and group."""

    def __init__(
        self, settings: Settings, *, queue: str, group: str, topic: str | None = None, clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._names = settings.topics
        self._queue = queue
        self._group = group
        self._clock: Clock = clock if clock is not None else SystemClock()
        self.topic = self._names.dlq(queue, group) if topic is None else topic

    async def newest(self, where: LetterFilter | None = None, *, limit: int = 100) -> list[DeadLetter]:
        """The newest letters that match, newest first; empty where the topic does not exist."""
        assert 1 <= limit <= MAX_LISTED, f"limit is 1 to {MAX_LISTED}"
        wanted = where if where is not None else LetterFilter(open_only=False)
        newest: list[tuple[tuple[int, int, int], DeadLetter]] = []
        async for letter, _ in self._scan():
            if wanted.matches(letter):
                entry = ((letter.died_ms, letter.partition, letter.offset), letter)
                (heapq.heappush if len(newest) < limit else heapq.heappushpop)(newest, entry)
        return [letter for _, letter in sorted(newest, key=lambda entry: entry[0], reverse=True)]

    async def count(self, where: LetterFilter | None = None) -> int:
        """How many letters match."""
        wanted = where if where is not None else LetterFilter()
        return sum([1 async for letter, _ in self._scan() if wanted.matches(letter)])

    async def show(self, id_or_position: str) -> list[tuple[DeadLetter, bytes | None]]:
        """The letters of a job id, or the one at `partition:offset`, with their whole value; oldest first."""
        position = read_position(id_or_position)
        return [
            (letter, record.value)
            async for letter, record in self._scan()
            if letter.id == id_or_position or (letter.partition, letter.offset) == position
        ]

    async def read_value(self, value: bytes | None) -> Any | None:
        """The JSON form of a value in Avro with a registered schema; None for every other value."""
        try:
            schema_id, body = read_frame(value or b"")
        except InvalidFrame:
            return None
        registry = open_registry(self._settings)
        await registry.refresh()
        decode = registry.decoder_of(schema_id)
        if decode is None:
            return None
        try:
            return msgspec.to_builtins(decode(memoryview(bytes(body))), str_keys=True)
        except Exception:  # fastavro raises whatever its reading of broken bytes ends in
            return None

    async def definitions(self) -> dict[str, bytes]:
        """The job definitions that workers have published, by key."""
        topics, found = await partition_counts(self._settings), dict[str, bytes]()
        control = self._names.control
        if control not in topics:
            return found
        reader: AIOKafkaConsumer = await start_client(lambda: new_reader(self._settings), self._settings)
        try:
            async for record in read_to_end(reader, control, topics[control]):
                key = (record.key or b"").decode("utf-8", "replace")
                if key.startswith(DEFINITION) and record.value is not None:
                    found[key] = record.value
                else:
                    found.pop(key, None)
        except (KafkaError, TimeoutError) as error:
            raise DeadLettersUnreadable(f"Topic {control} cannot be read now: {error!r}") from None
        finally:
            await stop_client(reader)
        return found

    async def replay(
        self,
        where: LetterFilter,
        *,
        by: str,
        limit: int | None = None,
        dry_run: bool = False,
        again: bool = False,
        pace: Pace | None = None,
        edit: Edit | None = None,
        on_progress: Callable[[LetterReplay], None] | None = None,
    ) -> LetterReplay:
        """Send the jobs of matching letters round again, oldest first; with `dry_run` only count and edit them.

        Only open letters are sent; one that is named and closed, or whose job has succeeded since, raises LettersClosed
        unless `again`; jobs that filters met and that have succeeded since are left alone and counted. `pace` limits
        the rate and stops when too many fail again; `edit` may change each on its way.
        Raises DeadLettersUnreadable, BrokerUnreachable, SendFailed.
        """
        chosen, deeds = await self._choose(where, limit, again=again)
        ended = {} if again else await self._ended(chosen)
        if ended and where.is_named:
            raise LettersClosed((job.letter, None) for job in ended.values())
        chosen = [job for job in chosen if job.letter.job_key not in ended]
        jobs = [(job, _round_of(job, deeds)) for job in chosen]
        if edit is not None:
            jobs = [(job, edit(round_)) for job, round_ in jobs]
        if not jobs or dry_run:
            return LetterReplay(matched=len(jobs), replayed=0, is_dry_run=dry_run, own=_own(jobs), ended=len(ended))
        writer = CommandWriter(self._settings)
        registry = open_registry(self._settings)
        try:
            return await self._send(
                jobs,
                writer,
                await registry.status_codec(),
                pace or Pace(),
                by=by,
                ended=len(ended),
                on_progress=on_progress,
            )
        finally:
            await writer.stop()

    async def discard(
        self, where: LetterFilter, *, by: str, limit: int | None = None, dry_run: bool = False
    ) -> LetterReplay:
        """Close matching letters without replaying them; `replayed` of the answer counts the discarded jobs.

        Raises LettersClosed, DeadLettersUnreadable, BrokerUnreachable, SendFailed.
        """
        chosen, _ = await self._choose(where, limit)
        if dry_run:
            return LetterReplay(matched=len(chosen), replayed=0, is_dry_run=True)
        writer = CommandWriter(self._settings)
        try:
            letters = [letter for job in chosen for letter in job.closes]
            await writer.write([self._event(letter, DISCARDED, by, letter.replay) for letter in letters])
        finally:
            await writer.stop()
        return LetterReplay(matched=len(chosen), replayed=len(chosen), is_dry_run=False)

    async def _choose(
        self, where: LetterFilter, limit: int | None, *, again: bool = False
    ) -> tuple[list[ChosenJob], Deeds]:
        most = MAX_CHOSEN if limit is None else min(limit, MAX_CHOSEN)
        choice, deeds = LetterChoice(where, again), Deeds()
        async for letter, record in self._scan(deeds):
            may_grow = len(choice.jobs) < most and choice.size < MAX_CHOSEN_BYTES
            choice.add(letter, record, deeds.find(letter), may_grow=may_grow)
        choice.check()
        return list(choice.jobs.values()), deeds

    async def _ended(self, jobs: Sequence[ChosenJob]) -> dict[str, ChosenJob]:
        """Those that have succeeded since, by their letters' `job_key`."""
        partitions = (await partition_counts(self._settings)).get(self._names.status) if jobs else None
        if partitions is None:
            return {}
        codec = await open_registry(self._settings).status_codec()
        try:
            ended = await succeeded_since(self._settings, codec, jobs, partitions=partitions)
        except (KafkaError, TimeoutError) as error:
            raise DeadLettersUnreadable(f"Topic {self._names.status} cannot be read now: {error!r}") from None
        return {job.letter.job_key: job for job in ended}

    async def _send(
        self,
        jobs: Sequence[tuple[ChosenJob, Round]],
        writer: CommandWriter,
        codec: StatusCodec,
        pace: Pace,
        *,
        by: str,
        ended: int,
        on_progress: Callable[[LetterReplay], None] | None,
    ) -> LetterReplay:
        names = self._names
        specs = [*names.group_specs(self._queue, self._group), names.status_spec()]
        partitions = await writer.learn(specs)
        tally, sent, stopped = Tally(pace), 0, None
        count = partitions.count(names.status)
        async with StatusNews(self._settings, codec, tally, partitions=count) as news:
            began_s = self._clock.monotonic()
            while sent < len(jobs) and stopped is None:
                part = jobs[sent : sent + pace.due(sent, self._clock.monotonic() - began_s)]
                if part:
                    now_ms = self._clock.time_ms()
                    records = []
                    for _, job in part:
                        tally.send(job.id, job.replay)
                        records += round_records(
                            job, names=names, codec=codec, partition_of=partitions.partition_of, now_ms=now_ms
                        )
                    events = [
                        self._event(letter, REPLAYED, by, job.replay, as_id=job.id)
                        for chosen, job in part
                        for letter in chosen.closes
                    ]
                    await writer.write(events, records=records)
                    sent += len(part)
                await news.read(seconds=0.0 if pace.rate is None else STEP_S)
                stopped = tally.verdict() if sent < len(jobs) else None
                done = LetterReplay(
                    matched=len(jobs),
                    replayed=sent,
                    is_dry_run=False,
                    succeeded=tally.succeeded,
                    failed=tally.failed,
                    stopped=stopped,
                    own=_own(jobs[:sent]),
                    ended=ended,
                )
                if on_progress is not None:
                    on_progress(done)
        return done

    def _event(self, letter: DeadLetter, event: str, by: str, replay: int, *, as_id: str | None = None) -> Command:
        value: dict[str, Any] = {"event": f"dead-letter.{event}", "id": letter.id, "replay": replay}
        if as_id not in (None, letter.id):
            value["as"] = as_id
        return Command(key=letter.event_key, by=by, at_ms=self._clock.time_ms(), value=value)

    async def _scan(self, deeds: Deeds | None = None) -> AsyncIterator[tuple[DeadLetter, Any]]:
        """Every letter up to the present end of the topic, with its record; before the first one `deeds` are read."""
        topics = await partition_counts(self._settings)
        if self.topic not in topics:
            return
        deeds = Deeds() if deeds is None else deeds
        reader: AIOKafkaConsumer = await start_client(lambda: new_reader(self._settings), self._settings)
        try:
            if self._names.control in topics:
                async for record in read_to_end(reader, self._names.control, topics[self._names.control]):
                    deeds.apply(record.key, record.value)
            async for record in read_to_end(reader, self.topic, topics[self.topic]):
                yield read_letter(record, queue=self._queue, group=self._group, deeds=deeds), record
        except (KafkaError, TimeoutError) as error:
            raise DeadLettersUnreadable(f"Topic {self.topic} cannot be read now: {error!r}") from None
        finally:
            await stop_client(reader)


def _own(jobs: Iterable[tuple[ChosenJob, Round]]) -> tuple[str, ...]:
    return tuple(islice((round_.id for job, round_ in jobs if round_.id != job.letter.id), TOLD_IDS))


def _round_of(job: ChosenJob, deeds: Deeds) -> Round:
    """The job's next round, under a number that none of its rounds had."""
    letter = job.letter
    if not letter.is_conflict:
        return round_of(letter, job.record, replay=deeds.next_replay(letter.id, letter.replay))
    first = round_of(letter, job.record, replay=1)
    return replace(first, replay=deeds.next_replay(first.id, 0))


class StatusNews:
    """Reads the statuses that are written from now on into a tally: `async with StatusNews(...) as news`."""

    def __init__(self, settings: Settings, codec: StatusCodec, tally: Tally, *, partitions: int) -> None:
        self._settings = settings
        self._codec = codec
        self._tally = tally
        self._partitions = [TopicPartition(settings.topics.status, number) for number in range(partitions)]
        self._reader: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        self._reader = reader = await start_client(lambda: new_reader(self._settings), self._settings)
        reader.assign(self._partitions)
        for at, end in (await reader.end_offsets(self._partitions)).items():
            reader.seek(at, end)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._reader is not None, "entered"
        await stop_client(self._reader)

    async def read(self, *, seconds: float) -> None:
        """Take in what there is, waiting at most this long for the first news."""
        assert self._reader is not None, "entered"
        for records in (await self._reader.getmany(timeout_ms=int(seconds * 1000))).values():
            for record in records:
                if record.value is None:
                    continue
                try:
                    self._tally.note(self._codec.decode(record.value))
                except InvalidStatus:
                    continue  # the view's fold complains of it


def read_position(text: str) -> tuple[int, int] | None:
    """Partition and offset of `partition:offset`; None for any other text."""
    found = _POSITION.fullmatch(text)
    return None if found is None else (int(found[1]), int(found[2]))
