"""What stands on the log about an app's jobs: every job record and the statuses, folded. Shell over one reader."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from logqueue_schemas.job_status import JobStatus, State, StatusCodec

from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.handle import JobState
from logqueue.jobs.topics import TopicKind, TopicRole
from logqueue_consumers.intake.job_reader import JobReader
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.partitions.window import PartitionWindow

if TYPE_CHECKING:
    from logqueue.jobs.app import App

READ_TIMEOUT_S = 20.0
"""Longest wait for what the log has already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabJob:
    """A job on the log and what has become of it. Times are milliseconds since the epoch."""

    id: str
    type: str | None
    tenant: str
    queue: str
    args: Mapping[str, Any] | None
    """None if the record's value could not be read."""
    created_ms: int
    due_ms: int | None
    """Not to run before."""
    status: JobState | None
    """None while no worker has said anything: the job is queued."""
    history: tuple[JobState, ...]
    """Every state that was written, in the order of the log."""

    @property
    def state(self) -> str:
        """queued, running, retrying, scheduled, succeeded, dead, ..."""
        return str(self.status.state) if self.status is not None else str(State.QUEUED)

    @property
    def result(self) -> Any:
        """What the handler returned."""
        return self.status.result if self.status is not None else None

    @property
    def attempt(self) -> int:
        """Which attempt its state is about, from 1."""
        return self.status.attempt if self.status is not None else 1

    @property
    def error(self) -> str | None:
        """`Type: message` of the failure that its state tells of."""
        status = self.status
        return f"{status.error_type}: {status.error_message}" if status is not None and status.error_type else None


class LogReader:
    """Reads on from where it was at every look."""

    def __init__(self, app: App, counts: Mapping[str, int], codec: StatusCodec) -> None:
        """`counts` are the partitions of the topics to read."""
        self._app = app
        self._codec = codec
        self._roles: dict[str, TopicRole] = {}
        names = app.settings.topics
        for topic in counts:
            role = names.role(topic)
            if role is not None and role.kind is TopicKind.JOBS:
                self._roles[topic] = role
        wanted = [*self._roles, names.status]
        self._partitions = [TopicPartition(topic, number) for topic in wanted for number in range(counts[topic])]
        self._jobs: dict[str, tuple[int, LabJob]] = {}
        self._read = JobReader(app, app.group).read
        self._histories: dict[str, list[JobStatus]] = {}
        self._reader: AIOKafkaConsumer | None = None
        self._ends: AIOKafkaConsumer | None = None
        """Fetches nothing: on a connection where a fetch waits for records every question waits with it."""
        self._asked: set[TopicPartition] = set()
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Connect."""
        settings = self._app.settings
        self._ends = await start_client(lambda: new_reader(settings), settings)
        self._reader = reader = await start_client(lambda: new_reader(settings), settings)
        reader.assign(self._partitions)
        await reader.seek_to_beginning(*self._partitions)

    async def stop(self) -> None:
        """Close the connection."""
        for reader in (self._reader, self._ends):
            if reader is not None:
                await stop_client(reader)

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Where committed records end (the last stable offsets)."""
        assert self._ends is not None, "started"
        wanted = list(partitions)
        if not self._asked.issuperset(wanted):
            self._asked.update(wanted)
            # Without this aiokafka looks for the leaders of one topic after the other, with a pause before each.
            await self._ends._client.set_topics({tp.topic for tp in self._asked})
        return dict(await self._ends.end_offsets(wanted))

    async def jobs(self) -> list[LabJob]:
        """Every job that is on the log now, in the order of creation."""
        async with self._lock, asyncio.timeout(READ_TIMEOUT_S):
            await self._read_to_end()
        return [self._with_status(job) for _, job in sorted(self._jobs.values(), key=lambda found: found[0])]

    async def _read_to_end(self) -> None:
        reader = self._reader
        assert reader is not None, "started"
        ends = await self.ends(self._partitions)
        for tp, end in ends.items():
            while await reader.position(tp) < end:
                for at, records in (await reader.getmany(timeout_ms=100)).items():
                    for record in records:
                        self._take(at.topic, record)

    def _take(self, topic: str, record: Any) -> None:
        if (role := self._roles.get(topic)) is not None:
            self._take_job(role, record)
        elif record.value is not None:
            status = self._codec.decode(record.value)
            if not status.shadow and status.group == self._app.group:
                self._histories.setdefault(status.id, []).append(status)

    def _take_job(self, role: TopicRole, record: Any) -> None:
        assert role.queue is not None, "a topic of jobs has a queue"
        place = OwnedPartition(
            record.topic,
            record.partition,
            kind=role.kind,
            queue=role.queue,
            order="none",
            window=PartitionWindow(0, []),
        )
        job = self._read(record, place)
        found = LabJob(
            id=job.id,
            type=job.type,
            tenant=job.tenant,
            queue=role.queue,
            args=msgspec.to_builtins(job.arguments) if job.arguments is not None else _plain(record.value),
            created_ms=job.created_ms,
            due_ms=job.headers.not_before_ms,
            status=None,
            history=(),
        )
        self._jobs.setdefault(job.id, (len(self._jobs), found))

    def _with_status(self, job: LabJob) -> LabJob:
        written = self._histories.get(job.id)
        if not written:
            return job
        newest = max(written, key=lambda status: status.version)
        return replace(job, status=JobState.of(newest), history=tuple(JobState.of(status) for status in written))


def _plain(value: bytes | None) -> Mapping[str, Any] | None:
    """The arguments of a job that this app cannot run, if they are JSON."""
    try:
        found = msgspec.json.decode(value or b"")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
