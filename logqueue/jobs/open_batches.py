"""Awaited sends of one moment share a batch for each partition: one future of a caller each, one of the log. Shell.

A partition has one batch under way; what is sent meanwhile fills the next one, so batches grow with the load and an
idle log is written to at once. aiokafka would collect records in the same way, at a cost per record.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from logqueue.jobs.handle import UNKNOWN_OFFSET
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
        """It is on the log from this offset on; negative where the log has it, but does not tell where."""
        for position, waiter in enumerate(self.waiters):
            if not waiter.done():
                waiter.set_result(base_offset + position if base_offset >= 0 else UNKNOWN_OFFSET)

    def failed(self, error: BaseException) -> None:
        """It is not on the log, or nobody knows. Callers who have given up see nothing of it."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(copy.copy(error))


class _Lane:
    """The batches of one partition, the last of them open, and the one under way."""

    __slots__ = ("batches", "is_busy", "partition", "topic", "under_way")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.batches: deque[_Batch] = deque()
        self.is_busy = False
        self.under_way: _Batch | None = None


class OpenBatches:
    """The awaited sends of a client. At most `max_pending` records are held until their fate is known."""

    def __init__(self, *, timeout_s: float, max_pending: int) -> None:
        self._timeout_s = timeout_s
        self._pending = asyncio.Semaphore(max_pending)
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def put(self, producer: AIOKafkaProducer, topic: str, partition: int, job: PreparedJob, key: bytes) -> int:
        """Send a job; its offset once it is durable. Raises TimeoutError, aiokafka's KafkaError."""
        if self._pending.locked():
            async with asyncio.timeout(self._timeout_s):
                await self._pending.acquire()
        else:
            await self._pending.acquire()
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = _Lane(topic, partition)
        waiter = self._add(lane, producer, job, key)
        if not lane.is_busy:
            lane.is_busy = True
            asyncio.get_running_loop().call_soon(self._send_next, lane)  # with all that comes in this turn
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
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for lane in self._lanes.values():
            if lane.under_way is not None:
                lane.under_way.failed(TimeoutError())  # its room is given back when the producer tells its fate
            self._send_next(lane)

    def _send_next(self, lane: _Lane) -> None:
        """Hand over the oldest batch of a lane, if there is one."""
        lane.under_way = None
        while lane.batches and lane.under_way is None:
            batch = lane.under_way = lane.batches.popleft()
            if self._is_closed:
                self._give_up(lane, batch, TimeoutError())
                continue
            try:
                fate = _at_once(batch.hand_over(lane.topic, lane.partition))
            except Exception as error:
                self._give_up(lane, batch, error)
                continue
            if fate is not None:
                self._follow(lane, batch, fate)
            else:
                task = asyncio.create_task(self._hand_over(lane, batch))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        lane.is_busy = lane.under_way is not None

    async def _hand_over(self, lane: _Lane, batch: _Batch) -> None:
        """Hand over a batch that has to wait until the producer takes it."""
        try:
            async with asyncio.timeout_at(batch.deadline_s):
                fate = await batch.hand_over(lane.topic, lane.partition)
        except asyncio.CancelledError:
            self._give_up(lane, batch, TimeoutError())
            raise
        except Exception as error:
            self._give_up(lane, batch, error)
            self._send_next(lane)
        else:
            self._follow(lane, batch, fate)

    def _follow(self, lane: _Lane, batch: _Batch, fate: asyncio.Future[Any]) -> None:
        timer = asyncio.get_running_loop().call_at(batch.deadline_s, self._ended, lane, batch, TimeoutError())
        fate.add_done_callback(partial(self._told, lane, batch, timer))

    def _told(self, lane: _Lane, batch: _Batch, timer: asyncio.TimerHandle, fate: asyncio.Future[Any]) -> None:
        timer.cancel()
        self._release(batch)
        error = TimeoutError() if fate.cancelled() else fate.exception()
        if error is None:
            batch.confirmed(fate.result().offset)
        self._ended(lane, batch, error)

    def _ended(self, lane: _Lane, batch: _Batch, error: BaseException | None) -> None:
        """A batch's fate is known, or nobody waits for it any more: the next one's turn, if it is not that already."""
        if error is not None:
            batch.failed(error)
        if lane.under_way is batch:
            self._send_next(lane)

    def _give_up(self, lane: _Lane, batch: _Batch, error: BaseException) -> None:
        """The producer has not taken it."""
        batch.failed(error)
        self._release(batch)
        lane.under_way = None

    def _release(self, batch: _Batch) -> None:
        for _ in batch.waiters:
            self._pending.release()


def _at_once(handing: Coroutine[Any, Any, asyncio.Future[Any]]) -> asyncio.Future[Any] | None:
    """The result of a coroutine that waits for nothing; None if it would wait: it has ended, to be begun anew."""
    try:
        handing.send(None)
    except StopIteration as done:
        fate: asyncio.Future[Any] = done.value
        return fate
    handing.close()
    return None
