"""An operator's hand on jobs: cancel, retry, run now, discard. Shell: reads the job's record, writes commands.

States come from the view, which may be a moment old: a command about a job that has ended meanwhile changes nothing,
and a retry asked for twice goes round once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from logqueue_schemas.job_status import StatusCodec

from logqueue.clock import Clock
from logqueue.errors import LogqueueError
from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.control import Command, cancel_command, discard_command, retry_command, run_now_command
from logqueue.jobs.errors import InvalidHeader
from logqueue.jobs.headers import Origin, read_job_headers, salvage_job_headers
from logqueue.jobs.job_ids import id_of_position
from logqueue.jobs.schema_source import open_registry
from logqueue.jobs.settings import Settings
from logqueue_consumers.control.command_writer import CommandWriter
from logqueue_consumers.control.decisions import Verb
from logqueue_consumers.control.rounds import Round, round_records
from logqueue_consumers.view.job import Job, State
from logqueue_consumers.writing.outgoing import Outgoing

READ_TIMEOUT_S = 10.0
"""Longest wait for one job's record."""
REMEMBERED_ROUNDS = 10_000
"""Retries that are not written a second time though the view does not show them yet."""


class RecordGone(LogqueueError):
    """The log no longer holds the record of a job, so it cannot go round again."""


class NoGroup(LogqueueError):
    """It is not known which group runs a job."""


class Operator:
    """Carries out what one verb asks for, for some jobs at a time."""

    def __init__(self, settings: Settings, clock: Clock, *, writer: CommandWriter | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self.writer = writer if writer is not None else CommandWriter(settings)
        self._codec: StatusCodec | None = None
        self._reader: AIOKafkaConsumer | None = None
        self._reading = asyncio.Lock()
        self._rounds: OrderedDict[tuple[str, int], None] = OrderedDict()

    async def apply(
        self,
        verb: Verb,
        jobs: Sequence[Job],
        *,
        by: str,
        reason: str | None = None,
        group: str | None = None,
        as_type: str | None = None,
        is_strict: bool = False,
    ) -> int:
        """Do it to these jobs, whose states allow it; returns to how many.

        `group` runs jobs of which the view knows no group; `as_type` is what they are retried as. Raises
        BrokerUnreachable, SendFailed, and (`is_strict`) RecordGone and NoGroup for a job that cannot go round again,
        before anything is written.
        """
        now_ms = self._clock.time_ms()
        if verb is Verb.RETRY:
            return await self._retry(jobs, by=by, now_ms=now_ms, group=group, as_type=as_type, is_strict=is_strict)
        await self.writer.write([_command(verb, job, by=by, at_ms=now_ms, reason=reason) for job in jobs])
        return len(jobs)

    async def stop(self) -> None:
        """Close the connections."""
        await self.writer.stop()
        reader, self._reader = self._reader, None
        if reader is not None:
            await stop_client(reader)

    async def _retry(
        self, jobs: Sequence[Job], *, by: str, now_ms: int, group: str | None, as_type: str | None, is_strict: bool
    ) -> int:
        fresh = [job for job in jobs if (job.key.id, job.outcome.replay + 1) not in self._rounds]
        rounds: list[Round] = []
        moved: list[Command] = []
        for job in fresh:
            try:
                again = await self.round_of(job, group=group)
            except (RecordGone, NoGroup):
                if is_strict:
                    raise
                continue
            rounds.append(again if as_type is None else again.with_type(as_type))
            if job.outcome.state is State.PARKED:
                moved.append(cancel_command(again.id, replay=job.outcome.replay, by=by, at_ms=now_ms, is_moved=True))
        if moved:
            # First, so that a worker which learns the type meanwhile does not run the parked record beside the round.
            await self.writer.write(moved)
        if rounds:
            await self._send_round(rounds, by=by, now_ms=now_ms)
        return len(jobs) - len(fresh) + len(rounds)

    async def _send_round(self, rounds: Sequence[Round], *, by: str, now_ms: int) -> None:
        names = self._settings.topics
        specs = [spec for each in rounds for spec in names.group_specs(each.queue, each.group)]
        partitions = await self.writer.learn([*specs, names.status_spec()])
        if self._codec is None:
            self._codec = await open_registry(self._settings).status_codec()
        records: list[Outgoing] = []
        for each in rounds:
            records += round_records(
                each, names=names, codec=self._codec, partition_of=partitions.partition_of, now_ms=now_ms
            )
        commands = [retry_command(each.id, replay=each.replay, by=by, at_ms=now_ms) for each in rounds]
        await self.writer.write(commands, records=records)
        for each in rounds:
            self._rounds[each.id, each.replay] = None
        while len(self._rounds) > REMEMBERED_ROUNDS:
            self._rounds.popitem(last=False)

    async def round_of(self, job: Job, *, group: str | None = None) -> Round:
        """The next round of a job, from its first record."""
        identity, outcome = job.identity, job.outcome
        runner = outcome.group or group
        if not runner:
            raise NoGroup(f"job {job.key.id!r} has not been run yet: it is not known which group would run it again")
        record = await self._read(identity.topic, identity.partition, identity.offset)
        if record is None or not _is_record_of(job.key.id, record):
            raise RecordGone(
                f"the log no longer holds the record of job {job.key.id!r}"
                f" ({identity.topic}-{identity.partition}@{identity.offset})"
            )
        again = Round(
            id=job.key.id,
            type=job.type,
            queue=identity.queue,
            group=runner,
            tenant=identity.tenant,
            replay=outcome.replay + 1,
            key=record.key,
            value=record.value,
            headers=record.headers,
            origin=Origin(identity.topic, identity.partition, identity.offset, runner),
        )
        return again if _name_of(record) in (None, job.key.id) else again.with_id(job.key.id)

    async def _read(self, topic: str, partition: int, offset: int) -> Any:
        """The record at an offset; None where the log has it no more."""
        tp = TopicPartition(topic, partition)
        async with self._reading, asyncio.timeout(READ_TIMEOUT_S):
            if self._reader is None:
                self._reader = await start_client(lambda: new_reader(self._settings), self._settings)
            reader = self._reader
            try:
                reader.assign([tp])
                begin = (await reader.beginning_offsets([tp]))[tp]
                end = (await reader.end_offsets([tp]))[tp]
                if not begin <= offset < end:
                    return None
                reader.seek(tp, offset)
                while await reader.position(tp) <= offset:
                    for record in (await reader.getmany(tp, timeout_ms=200, max_records=1)).get(tp, ()):
                        return record if record.offset == offset else None
                return None
            except BaseException:
                # Whatever it was in the middle of: the next one begins with a new connection.
                self._reader = None
                await stop_client(reader, timeout_s=1.0)
                raise


def _is_record_of(job_id: str, record: Any) -> bool:
    """Whether a record is the job's: what the view knows of a place may be older than the topic there.

    A job whose name was another one's (a conflict) goes by its place, whatever its record says.
    """
    return job_id in (_name_of(record), id_of_position(record.topic, record.partition, record.offset))


def _name_of(record: Any) -> str | None:
    """The id that a record gives."""
    try:
        return read_job_headers(record.headers).id
    except InvalidHeader:
        return salvage_job_headers(record.headers).id


def _command(verb: Verb, job: Job, *, by: str, at_ms: int, reason: str | None) -> Command:
    replay = job.outcome.replay
    match verb:
        case Verb.CANCEL:
            return cancel_command(job.key.id, replay=replay, by=by, at_ms=at_ms, reason=reason)
        case Verb.RUN_NOW:
            return run_now_command(job.key.id, replay=replay, by=by, at_ms=at_ms)
        case Verb.DISCARD if job.outcome.state is State.PARKED:
            # No dead letter says of it that it was wanted: it ends.
            return cancel_command(job.key.id, replay=replay, by=by, at_ms=at_ms, reason=reason or "discarded")
        case Verb.DISCARD:
            return discard_command(job.key.id, replay=replay, by=by, at_ms=at_ms)
        case Verb.RETRY:
            raise AssertionError("a retry is a round, not a command alone")
