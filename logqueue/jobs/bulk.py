"""Sending many jobs as whole batches per partition. Shell over aiokafka's `create_batch`/`send_batch`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError
from msgspec.structs import force_setattr

from logqueue.jobs.errors import SendFailed
from logqueue.jobs.handle import UNKNOWN_OFFSET, JobHandle
from logqueue.jobs.partitioning import place_of
from logqueue.jobs.prepared import prepared_jobs
from logqueue.jobs.sending import PreparedJob, check_job_size

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer
    from aiokafka.producer.message_accumulator import BatchBuilder

    from logqueue.jobs.client import JobClient

_UNCONFIRMED = UNKNOWN_OFFSET - 1  # nobody has said that the log has it
YIELD_EVERY = 2_000  # jobs between two turns of the event loop, so that a long call starves no one


class BulkSendFailed(SendFailed):
    """Some of many jobs were not confirmed. `confirmed` has the handles of those that are on the log."""

    def __init__(self, message: str, *, confirmed: list[JobHandle]) -> None:
        super().__init__(message)
        self.confirmed = confirmed


class _Batch:
    """One batch being filled, and the handles of its jobs, which lack their offsets."""

    __slots__ = ("builder", "handles", "partition", "route")

    def __init__(self, route: _Route, partition: int) -> None:
        self.route = route
        self.partition = partition
        self.builder: BatchBuilder = route.producer.create_batch()
        self.handles: list[JobHandle] = []


class _Route:
    """The topic of a queue's class, and the batch that is being filled for each of its partitions."""

    __slots__ = ("batches", "partitions", "producer", "topic")

    def __init__(self, producer: AIOKafkaProducer, topic: str, partitions: int) -> None:
        self.producer = producer
        self.topic = topic
        self.partitions = partitions
        self.batches = [_Batch(self, partition) for partition in range(partitions)]


class BulkSend:
    """One call of `send_many`. Per partition one batch is being filled and at most two are under way (aiokafka)."""

    def __init__(self, client: JobClient) -> None:
        self._client = client
        self._routes: dict[tuple[str, str | None], _Route] = {}
        self._under_way: set[asyncio.Future[Any]] = set()
        # Made when a job goes into its batch, so that the job itself can go: the memory of the next is this one's, and
        # is in the processor's cache.
        self._handles: list[JobHandle] = []
        self._refusal: BaseException | None = None

    async def send(self, jobs: Iterable[PreparedJob]) -> list[JobHandle]:
        """Send them all; the handles in the order of the jobs, or BulkSendFailed.

        An error of the iterable itself (or a job that is too large) is raised once the jobs before it are settled.
        """
        failure: str | None = None
        try:
            await self._fill(jobs)
            for route in self._routes.values():
                for batch in route.batches:
                    if batch.handles:
                        await self._submit(batch)
        except TimeoutError:
            failure = self._client.unconfirmed("The rest")
        except KafkaError as error:
            failure = repr(error)
        finally:
            late = await self._settle()
        if self._refusal is not None:
            failure = repr(self._refusal)
        confirmed = [handle for handle in self._handles if handle.offset != _UNCONFIRMED]
        if failure is None and late is None:
            return confirmed
        address = self._client.settings.bootstrap
        message = f"{len(confirmed)} of {len(self._handles)} jobs are confirmed by {address}. {failure or late}"
        raise BulkSendFailed(message, confirmed=confirmed)

    async def _fill(self, jobs: Iterable[PreparedJob]) -> None:
        max_bytes = self._client.settings.max_record_bytes
        queue = priority = route = None
        for index, job in enumerate(prepared_jobs(jobs, "send_many")):
            check_job_size(job, max_bytes)
            if job.schema is not None:
                job = await self._client.with_schema(job)
            if route is None or job.queue != queue or job.priority != priority:
                queue, priority = job.queue, job.priority
                route = await self._route(queue, priority)
            key, partition = place_of(job.tenant if job.key is None else job.key, route.partitions)
            batch = route.batches[partition]
            if batch.builder.append(timestamp=job.created_ms, key=key, value=job.value, headers=job.headers) is None:
                await self._submit(batch)
                batch = route.batches[partition] = _Batch(route, partition)
                taken = batch.builder.append(timestamp=job.created_ms, key=key, value=job.value, headers=job.headers)
                assert taken is not None, "an empty batch takes any record"
            handle = self._client.handle(job, route.topic, partition, _UNCONFIRMED)
            batch.handles.append(handle)
            self._handles.append(handle)
            if index % YIELD_EVERY == 0:
                await asyncio.sleep(0)

    async def _route(self, queue: str, priority: str | None) -> _Route:
        found = self._routes.get((queue, priority))
        if found is None:
            found = self._routes[queue, priority] = _Route(*await self._client.ready(queue, priority))
        return found

    async def _submit(self, batch: _Batch) -> None:
        """Hand a batch over; waits (bounded) while the batch before it has not left."""
        route = batch.route
        batch.builder.close()
        async with asyncio.timeout(self._client.settings.send_timeout_s):
            future = await route.producer.send_batch(batch.builder, route.topic, partition=batch.partition)
        self._under_way.add(future)
        future.add_done_callback(partial(self._settled, batch))

    def _settled(self, batch: _Batch, future: asyncio.Future[Any]) -> None:
        self._under_way.discard(future)
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._refusal = self._refusal or error
            self._client.discard_producer(batch.route.producer)
            return
        base_offset = future.result().offset
        for position, handle in enumerate(batch.handles):  # which nobody has seen yet
            force_setattr(handle, "offset", base_offset + position if base_offset >= 0 else UNKNOWN_OFFSET)

    async def _settle(self) -> str | None:
        """Wait for the log's answers. Patience ends, with a text, where none comes within the send timeout."""
        while self._under_way:
            done, _ = await asyncio.wait(
                self._under_way, timeout=self._client.settings.send_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                return self._client.unconfirmed("The rest")
        return None
