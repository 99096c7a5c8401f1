"""The connection of an app or an API to the log: sends jobs and waits for them. Shell over aiokafka."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from logqueue.clock import Clock, SystemClock
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.argument_schema import ArgumentSchema, framed
from logqueue.jobs.bulk import BulkSend
from logqueue.jobs.connection import STOP_TIMEOUT_S, new_producer, start_client, stop_client
from logqueue.jobs.errors import JobTooLarge, SendFailed
from logqueue.jobs.handle import JobHandle, JobState
from logqueue.jobs.open_batches import OpenBatches
from logqueue.jobs.partitioning import partition_of
from logqueue.jobs.schema_rules import job_subject
from logqueue.jobs.schema_source import Registry, open_registry, register_declared
from logqueue.jobs.sending import PreparedJob, check_job_size
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import JOBS_PARTITIONS, TopicSpec
from logqueue.jobs.watcher import StatusWatcher


class JobClient:
    """Sends jobs and waits for their states, for one event loop.

    `partitions_of` says how many partitions a queue's topic is created with if it does not exist. The producer starts
    with the first send, the reader of states with the first wait. A producer that the log has refused once is replaced,
    since its sequence numbers have a gap (KIP-98).
    """

    def __init__(
        self, settings: Settings, *, partitions_of: Callable[[str], int] | None = None, clock: Clock | None = None
    ) -> None:
        self.settings = settings
        self._names = settings.topics
        self._partitions_of = partitions_of if partitions_of is not None else lambda queue: JOBS_PARTITIONS
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._topics: dict[str, int] = {}  # partitions of the topics known to exist
        self._batches = OpenBatches(timeout_s=settings.send_timeout_s, max_pending=settings.max_pending_records)
        self._stopping: set[asyncio.Task[None]] = set()
        self._registry: Registry | None = None
        self._registering = asyncio.Lock()
        self._schema_ids: dict[tuple[str, str], tuple[ArgumentSchema, int]] = {}  # by queue and type
        self._watcher = StatusWatcher(settings, clock=clock if clock is not None else SystemClock())

    async def send(self, job: PreparedJob) -> JobHandle:
        """Put one job on the log; returns when it is durable (acks=all).

        The Avro schema of a job is registered before the first of its jobs. Raises JobTooLarge, RegistrationFailed,
        SchemaRefused (nothing sent), BrokerUnreachable, SendFailed. After a SendFailed for want of an answer the
        job may still arrive: send it again under the same id if it must not be there twice.
        """
        self.check_size(job)
        if job.schema is not None:
            job = await self.with_schema(job)
        producer, topic, partitions = await self.ready(job.queue, job.priority)
        key = job.record_key()
        partition = partition_of(key, partitions)
        offset = await self._confirmed(producer, job, topic, partition, key)
        return self.handle(job, topic, partition, offset)

    async def send_many(self, jobs: Iterable[PreparedJob]) -> list[JobHandle]:
        """Put many jobs on the log, in whole batches; see App.send_many."""
        bulk = BulkSend(self)
        return await bulk.send(jobs)

    async def wait(self, handle: JobHandle, *, timeout_s: float) -> JobState:
        """The job's final state; WaitTimeout after `timeout_s`."""
        return await self._watcher.wait(handle, timeout_s=timeout_s)

    async def status(self, handle: JobHandle) -> JobState | None:
        """The newest state on the log, or None."""
        return await self._watcher.status(handle)

    async def with_schema(self, job: PreparedJob) -> PreparedJob:
        """The job as it may be sent: its schema is registered, and its frame has the id of that."""
        return job if job.schema is None else framed(job, await self.schema_id(job.schema))

    async def schema_id(self, schema: ArgumentSchema) -> int:
        """The id under which a schema is registered; it is, if it was not. Asked of the registry once."""
        known = self._schema_ids.get(schema.key)
        if known is not None and known[0] is schema:
            return known[1]
        async with self._registering:
            if self._registry is None:
                self._registry = open_registry(self.settings)
            subject = job_subject(self._names, queue=schema.queue, type_=schema.type)
            registration = await register_declared(self._registry, subject, schema.value)
        self._schema_ids[schema.key] = schema, registration.id
        return registration.id

    async def ready(self, queue: str, priority: str | None = None) -> tuple[AIOKafkaProducer, str, int]:
        """A started producer, the topic of a queue's class (created if missing), and its number of partitions."""
        topic = self._names.jobs(queue, priority)
        producer, partitions = await self._ready(topic, queue, priority)
        return producer, topic, partitions

    async def producer(self) -> AIOKafkaProducer:
        """A started producer."""
        async with self._starting:
            if self._producer is None:
                self._producer = await start_client(lambda: new_producer(self.settings), self.settings)
            return self._producer

    @property
    def _patience_s(self) -> float:
        return min(STOP_TIMEOUT_S, self.settings.send_timeout_s)

    async def close(self) -> None:
        """Wait (bounded) for what is on its way, and end the connections."""
        await self._watcher.close()
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_client(producer, timeout_s=self._patience_s)
        await self._batches.close()
        if self._stopping:
            await asyncio.wait(self._stopping)

    def handle(self, job: PreparedJob, topic: str, partition: int, offset: int) -> JobHandle:
        """The handle of a job that the log has confirmed."""
        return JobHandle(
            id=job.id,
            type=job.type,
            queue=job.queue,
            tenant=job.tenant,
            topic=topic,
            partition=partition,
            offset=offset,
            created_ms=job.created_ms,
            client=self,
            is_keyed=job.is_keyed,
            key=job.key,
        )

    def check_size(self, job: PreparedJob) -> None:
        """JobTooLarge if the record is above `max_record_bytes`."""
        check_job_size(job, self.settings.max_record_bytes)

    def discard_producer(self, producer: AIOKafkaProducer) -> None:
        """Replace a producer that the log has refused; what it still has is delivered or given up in time."""
        if self._producer is producer:
            self._producer = None
            task = asyncio.create_task(stop_client(producer, timeout_s=self._patience_s))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def _ready(self, topic: str, queue: str, priority: str | None) -> tuple[AIOKafkaProducer, int]:
        producer, partitions = self._producer, self._topics.get(topic)
        if producer is not None and partitions is not None:
            return producer, partitions
        async with self._starting:
            if topic not in self._topics:
                specs: list[TopicSpec] = [
                    self._names.jobs_spec(queue, partitions=self._partitions_of(queue), priority=name)
                    for name in dict.fromkeys((None, priority))
                ]
                self._topics.update(await ensure_topics(self.settings, specs))
            if self._producer is None:
                self._producer = await start_client(lambda: new_producer(self.settings), self.settings)
            return self._producer, self._topics[topic]

    async def _confirmed(
        self, producer: AIOKafkaProducer, job: PreparedJob, topic: str, partition: int, key: bytes
    ) -> int:
        """The offset under which the log confirmed the record."""
        try:
            return await self._batches.put(producer, topic, partition, job, key)
        except (TimeoutError, KafkaTimeoutError):
            raise SendFailed(self.unconfirmed(f"Job {job.id}")) from None
        except MessageSizeTooLargeError as error:
            self.discard_producer(producer)
            raise JobTooLarge(f"Job {job.id} is larger than {topic} takes (max.message.bytes): {error}") from None
        except KafkaError as error:
            self.discard_producer(producer)
            raise SendFailed(f"Job {job.id} was not taken by {topic} at {self.settings.bootstrap}: {error!r}") from None

    def unconfirmed(self, what: str) -> str:
        """The text for a send without an answer in time."""
        return (
            f"{what} was not confirmed by {self.settings.bootstrap} within {self.settings.send_timeout_s:g} s: "
            "no broker answers. It may still arrive if the broker comes back."
        )
