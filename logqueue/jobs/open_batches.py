"""Awaited sends of one moment share a batch for each partition: one future of a caller each, one of the log. Shell.

A partition has one batch under way; what is sent meanwhile fills the next one, so batches grow with the load and an
idle log is written to at once. aiokafka would collect records in the same way, at a cost per record.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from logqueue.jobs.sending import PreparedJob

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer
    from aiokafka.producer.message_accumulator import BatchBuilder


class _Batch:
    """Records of one partition and the futures of those who wait for them, which get their offsets."""

    __slots__ = ("_builder", "deadline_s", "producer", "waiters")

    def __init__(self, producer: AIOKafkaProducer, *, deadline_s: float) -> None:
        self.producer = producer
        self.deadline_s = deadline_s  # of the loop's clock
        self._builder: BatchBuilder = producer.create_batch()
        self.waiters: list[asyncio.Future[int]] = []

    def add(self, job: PreparedJob, key: bytes) -> asyncio.Future[int] | None:
        """Who waits for the job; None if it has no room here. An empty batch takes any job."""
        if self._builder.append(timestamp=job.created_ms, key=key, value=job.value, headers=job.headers) is None:
            return None
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        return waiter

    async def hand_over(self, topic: str, partition: int) -> asyncio.Future[Any]:
        """Give it to the producer, which takes nothing more into it; what comes is its fate."""
        self._builder.close()
        fate: asyncio.Future[Any] = await self.producer.send_batch(self._builder, topic, partition=partition)
        return fate

    def confirmed(self, base_offset: int) -> None:
        """It is on the log from this offset on."""
        for offset, waiter in enumerate(self.waiters, base_offset):
            if not waiter.done():
                waiter.set_result(offset)

    def failed(self, error: BaseException) -> None:
        """It is not on the log, or nobody knows. Callers who have given up see nothing of it."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(copy.copy(error))


class _Lane:
    """The batches of one partition, the last of them open."""

    __slots__ = ("batches", "is_busy")

    def __init__(self) -> None:
        self.batches: deque[_Batch] = deque()
        self.is_busy = False


class OpenBatches:
    """The awaited sends of a client. At most `max_pending` records are held until their fate is known."""

    def __init__(self, *, timeout_s: float, max_pending: int) -> None:
        self._timeout_s = timeout_s
        self._pending = asyncio.Semaphore(max_pending)
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def put(self, producer: AIOKafkaProducer, topic: str, partition: int, job: PreparedJob, key: bytes) -> int:
        """Send a job; its offset once it is durable. Raises TimeoutError, aiokafka's KafkaError."""
        if self._pending.locked():
            async with asyncio.timeout(self._timeout_s):
                await self._pending.acquire()
        else:
            await self._pending.acquire()
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = _Lane()
        waiter = self._add(lane, producer, job, key)
        if not lane.is_busy:
            lane.is_busy = True
            task = asyncio.create_task(self._empty(lane, topic, partition))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await waiter

    def _add(self, lane: _Lane, producer: AIOKafkaProducer, job: PreparedJob, key: bytes) -> asyncio.Future[int]:
        batch = lane.batches[-1] if lane.batches else None
        if batch is not None and batch.producer is producer and (waiter := batch.add(job, key)) is not None:
            return waiter
        batch = _Batch(producer, deadline_s=asyncio.get_running_loop().time() + self._timeout_s)
        waiter = batch.add(job, key)
        assert waiter is not None, "an empty batch takes any job"
        lane.batches.append(batch)
        return waiter

    async def close(self) -> None:
        """Give up what has no answer yet; whoever waits for it is told."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _empty(self, lane: _Lane, topic: str, partition: int) -> None:
        """Send a lane's batches, one after the other, until there is none."""
        try:
            while lane.batches:
                await self._send(lane.batches.popleft(), topic, partition)
        finally:
            lane.is_busy = False
            while lane.batches:
                self._give_up(lane.batches.popleft())

    async def _send(self, batch: _Batch, topic: str, partition: int) -> None:
        fate: asyncio.Future[Any] | None = None
        try:
            async with asyncio.timeout_at(batch.deadline_s):
                fate = await batch.hand_over(topic, partition)
                fate.add_done_callback(partial(self._release, len(batch.waiters)))
                metadata = await asyncio.shield(fate)
        except asyncio.CancelledError:
            batch.failed(TimeoutError())
            raise
        except Exception as error:
            batch.failed(error)
        else:
            batch.confirmed(metadata.offset)
        finally:
            if fate is None:
                self._release(len(batch.waiters))

    def _give_up(self, batch: _Batch) -> None:
        batch.failed(TimeoutError())
        self._release(len(batch.waiters))

    def _release(self, records: int, fate: asyncio.Future[Any] | None = None) -> None:
        for _ in range(records):
            self._pending.release()
        if fate is not None and not fate.cancelled():
            fate.exception()  # seen here, even if whoever waited for it has given up
