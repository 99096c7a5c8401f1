"""Sending many jobs as whole batches per partition. Shell over aiokafka's `create_batch`/`send_batch`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError

from logqueue.jobs.errors import SendFailed
from logqueue.jobs.handle import JobHandle
from logqueue.jobs.partitioning import partition_of
from logqueue.jobs.prepared import prepared_jobs
from logqueue.jobs.sending import PreparedJob

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer
    from aiokafka.producer.message_accumulator import BatchBuilder

    from logqueue.jobs.client import JobClient

YIELD_EVERY = 2_000  # jobs between two turns of the event loop, so that a long call starves no one


class BulkSendFailed(SendFailed):
    """Some of many jobs were not confirmed. `confirmed` has the handles of those that are on the log."""

    def __init__(self, message: str, *, confirmed: list[JobHandle]) -> None:
        super().__init__(message)
        self.confirmed = confirmed


class _Batch:
    """One batch being filled: its jobs with their places in the caller's order."""

    __slots__ = ("builder", "jobs", "partition", "producer", "topic")

    def __init__(self, producer: AIOKafkaProducer, topic: str, partition: int) -> None:
        self.producer = producer
        self.topic = topic
        self.partition = partition
        self.builder: BatchBuilder = producer.create_batch()
        self.jobs: list[tuple[int, PreparedJob]] = []

    def add(self, index: int, job: PreparedJob, key: bytes) -> bool:
        """Whether the job went in; a full batch takes no more, an empty one takes any job."""
        taken = self.builder.append(timestamp=job.created_ms, key=key, value=job.value, headers=job.headers)
        if taken is None:
            return False
        self.jobs.append((index, job))
        return True


class BulkSend:
    """One call of `send_many`. Per partition one batch is being filled and at most two are under way (aiokafka)."""

    def __init__(self, client: JobClient) -> None:
        self._client = client
        self._open: dict[tuple[str, int], _Batch] = {}
        self._under_way: set[asyncio.Future[Any]] = set()
        self._handles: dict[int, JobHandle] = {}
        self._refusal: BaseException | None = None
        self._count = 0

    async def send(self, jobs: Iterable[PreparedJob]) -> list[JobHandle]:
        """Send them all; the handles in the order of the jobs, or BulkSendFailed.

        An error of the iterable itself (or a job that is too large) is raised once the jobs before it are settled.
        """
        failure: str | None = None
        try:
            await self._fill(jobs)
            for batch in self._open.values():
                await self._submit(batch)
        except TimeoutError:
            failure = self._client.unconfirmed("The rest")
        except KafkaError as error:
            failure = repr(error)
        finally:
            late = await self._settle()
        if self._refusal is not None:
            failure = repr(self._refusal)
        confirmed = [self._handles[index] for index in sorted(self._handles)]
        if failure is None and late is None:
            return confirmed
        address = self._client.settings.bootstrap
        message = f"{len(confirmed)} of {self._count} jobs are confirmed by {address}. {failure or late}"
        raise BulkSendFailed(message, confirmed=confirmed)

    async def _fill(self, jobs: Iterable[PreparedJob]) -> None:
        routes: dict[tuple[str, str | None], tuple[AIOKafkaProducer, str, int]] = {}
        for index, job in enumerate(prepared_jobs(jobs, "send_many")):
            self._client.check_size(job)
            if job.schema is not None:
                job = await self._client.with_schema(job)
            way = (job.queue, job.priority)
            if way not in routes:
                routes[way] = await self._client.ready(*way)
            producer, topic, partitions = routes[way]
            key = job.record_key()
            place = (topic, partition_of(key, partitions))
            batch = self._open.get(place)
            if batch is None or not batch.add(index, job, key):
                if batch is not None:
                    await self._submit(batch)
                self._open[place] = batch = _Batch(producer, *place)
                added = batch.add(index, job, key)
                assert added, "an empty batch takes any record"
            self._count = index + 1
            if index % YIELD_EVERY == 0:
                await asyncio.sleep(0)

    async def _submit(self, batch: _Batch) -> None:
        """Hand a batch over; waits (bounded) while the batch before it has not left."""
        batch.builder.close()
        async with asyncio.timeout(self._client.settings.send_timeout_s):
            future = await batch.producer.send_batch(batch.builder, batch.topic, partition=batch.partition)
        self._under_way.add(future)
        future.add_done_callback(partial(self._settled, batch.producer, batch.topic, batch.partition, batch.jobs))

    def _settled(
        self,
        producer: AIOKafkaProducer,
        topic: str,
        partition: int,
        jobs: list[tuple[int, PreparedJob]],
        future: asyncio.Future[Any],
    ) -> None:
        self._under_way.discard(future)
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._refusal = self._refusal or error
            self._client.discard_producer(producer)
            return
        base = future.result().offset
        for position, (index, job) in enumerate(jobs):
            self._handles[index] = self._client.handle(job, topic, partition, base + position)

    async def _settle(self) -> str | None:
        """Wait for the log's answers. Patience ends, with a text, where none comes within the send timeout."""
        while self._under_way:
            done, _ = await asyncio.wait(
                self._under_way, timeout=self._client.settings.send_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                return self._client.unconfirmed("The rest")
        return None
