"""Awaited sends that share batches: who gets which offset, and what becomes of them when the log does not answer."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, NotEnoughReplicasError

from logqueue.clock import ManualClock
from logqueue.jobs.handle import UNKNOWN_OFFSET
from logqueue.jobs.open_batches import OpenBatches
from logqueue.jobs.sending import PreparedJob, prepare_job
from tests.loops import in_loop

CAPACITY = 4
NEVER_S = 30.0
SOON_S = 0.05


class _Builder:
    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.is_closed = False

    def append(self, *, timestamp: int, key: bytes, value: bytes, headers: Any) -> object | None:
        if self.is_closed or len(self.values) == CAPACITY:
            return None
        self.values.append(value)
        return value

    def close(self) -> None:
        self.is_closed = True


class _Producer:
    """Batches as they were handed over, each with its fate."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, list[bytes], asyncio.Future[Any]]] = []
        self.came = asyncio.Event()

    def create_batch(self) -> _Builder:
        return _Builder()

    async def send_batch(self, batch: _Builder, topic: str, *, partition: int) -> asyncio.Future[Any]:
        assert batch.is_closed, "what comes later would get offsets that the producer does not count"
        fate: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.sent.append((topic, partition, batch.values, fate))
        self.came.set()
        return fate

    async def batch(self, number: int) -> tuple[list[bytes], asyncio.Future[Any]]:
        """The batch of this number, once it has been handed over."""
        while len(self.sent) <= number:
            self.came.clear()
            await self.came.wait()
        return self.sent[number][2:]


class _Offset:
    def __init__(self, offset: int) -> None:
        self.offset = offset


def job(number: int) -> PreparedJob:
    return prepare_job(type="t", queue="q", value=b"%d" % number, source="test", now_ms=ManualClock().time_ms())


def put(batches: OpenBatches, producer: _Producer, number: int, *, partition: int = 0) -> asyncio.Task[int]:
    sending = batches.put(cast(AIOKafkaProducer, producer), "jobs.q", partition, job(number), b"k")
    return asyncio.ensure_future(sending)


@in_loop
async def test_sends_of_one_moment_share_a_batch_for_each_partition_and_get_its_offsets() -> None:
    producer, batches = _Producer(), OpenBatches(timeout_s=NEVER_S, max_pending=100)
    sends = [put(batches, producer, number, partition=number % 2) for number in range(6)]
    for place in (0, 1):
        values, fate = await producer.batch(place)
        assert values == [b"%d" % number for number in range(place, 6, 2)]
        fate.set_result(_Offset(100 * place))
    assert await asyncio.gather(*sends) == [0, 100, 1, 101, 2, 102]


@in_loop
async def test_no_job_of_a_batch_has_an_offset_where_the_log_tells_of_none() -> None:
    producer, batches = _Producer(), OpenBatches(timeout_s=NEVER_S, max_pending=100)
    sends = [put(batches, producer, number) for number in range(3)]
    (await producer.batch(0))[1].set_result(_Offset(UNKNOWN_OFFSET))
    assert await asyncio.gather(*sends) == [UNKNOWN_OFFSET] * 3


@in_loop
async def test_what_is_sent_while_a_batch_is_under_way_fills_the_next_one() -> None:
    producer, batches = _Producer(), OpenBatches(timeout_s=NEVER_S, max_pending=100)
    first = put(batches, producer, 0)
    _, fate = await producer.batch(0)
    later = [put(batches, producer, number) for number in range(1, 4)]
    await asyncio.sleep(0)
    assert len(producer.sent) == 1, "one batch of a partition at a time: the log sees them in order"
    fate.set_result(_Offset(7))
    values, fate = await producer.batch(1)
    fate.set_result(_Offset(8))
    assert values == [b"1", b"2", b"3"]
    assert await asyncio.gather(first, *later) == [7, 8, 9, 10]


@in_loop
async def test_a_full_batch_is_followed_by_another() -> None:
    producer, batches = _Producer(), OpenBatches(timeout_s=NEVER_S, max_pending=100)
    sends = [put(batches, producer, number) for number in range(CAPACITY + 1)]
    for place in (0, 1):
        (await producer.batch(place))[1].set_result(_Offset(place * CAPACITY))
    assert await asyncio.gather(*sends) == list(range(CAPACITY + 1))


@in_loop
async def test_a_refused_batch_fails_those_in_it_and_nobody_else() -> None:
    producer, batches = _Producer(), OpenBatches(timeout_s=NEVER_S, max_pending=100)
    refused = [put(batches, producer, number) for number in range(2)]
    _, fate = await producer.batch(0)
    taken = put(batches, producer, 2)
    await asyncio.sleep(0)
    fate.set_exception(NotEnoughReplicasError())
    (await producer.batch(1))[1].set_result(_Offset(5))
    assert [type(error) for error in await asyncio.gather(*refused, return_exceptions=True)] == [
        NotEnoughReplicasError
    ] * 2
    assert await taken == 5


@in_loop
async def test_a_send_without_an_answer_ends_in_time_and_so_do_those_behind_it() -> None:
    producer, batches = _Producer(), OpenBatches(timeout_s=SOON_S, max_pending=100)
    first = put(batches, producer, 0)
    await producer.batch(0)
    second = put(batches, producer, 1)
    async with asyncio.timeout(10 * SOON_S):
        errors = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(error) for error in errors] == [TimeoutError, TimeoutError]


@in_loop
async def test_a_caller_that_gives_up_takes_nobody_along() -> None:
    producer, batches = _Producer(), OpenBatches(timeout_s=NEVER_S, max_pending=100)
    first, second = put(batches, producer, 0), put(batches, producer, 1)
    values, fate = await producer.batch(0)
    first.cancel()
    fate.set_result(_Offset(3))
    assert values == [b"0", b"1"], "it was on its way"
    assert await second == 4
    assert first.cancelled()


@in_loop
async def test_no_more_records_are_held_than_may_be_until_their_fate_is_known() -> None:
    producer, batches = _Producer(), OpenBatches(timeout_s=NEVER_S, max_pending=2)
    sends = [put(batches, producer, number) for number in range(3)]
    values, fate = await producer.batch(0)
    assert values == [b"0", b"1"]
    fate.set_result(_Offset(0))
    values, fate = await producer.batch(1)
    assert values == [b"2"]
    fate.set_result(_Offset(2))
    assert await asyncio.gather(*sends) == [0, 1, 2]


@in_loop
async def test_room_for_a_record_is_waited_for_no_longer_than_for_an_answer() -> None:
    producer, batches = _Producer(), OpenBatches(timeout_s=SOON_S, max_pending=1)
    sends = [put(batches, producer, number) for number in range(2)]
    errors = await asyncio.gather(*sends, return_exceptions=True)
    assert [type(error) for error in errors] == [TimeoutError, TimeoutError]
    assert len(producer.sent) == 1


@in_loop
async def test_closing_tells_whoever_waits_for_an_answer() -> None:
    producer, batches = _Producer(), OpenBatches(timeout_s=NEVER_S, max_pending=100)
    sends = [put(batches, producer, 0)]
    await producer.batch(0)
    sends.append(put(batches, producer, 1))
    await asyncio.sleep(0)
    await batches.close()
    errors = await asyncio.gather(*sends, return_exceptions=True)
    assert [type(error) for error in errors] == [TimeoutError, TimeoutError]
    assert len(producer.sent) == 1, "nothing leaves after the end"


@in_loop
async def test_a_late_answer_does_not_send_a_batch_before_its_turn() -> None:
    producer, batches = _Producer(), OpenBatches(timeout_s=20 * SOON_S, max_pending=100)  # the others make it in time
    with pytest.raises(TimeoutError):
        await put(batches, producer, 0)
    second = put(batches, producer, 1)
    await producer.batch(1)
    third = put(batches, producer, 2)
    await asyncio.sleep(0)
    producer.sent[0][3].set_result(_Offset(0))  # that of the batch nobody waits for any more
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(producer.sent) == 2, "the second is still under way"
    producer.sent[1][3].set_result(_Offset(1))
    (await producer.batch(2))[1].set_result(_Offset(2))
    assert await asyncio.gather(second, third) == [1, 2]


@in_loop
async def test_a_producer_that_takes_no_batch_is_an_error_of_its_senders() -> None:
    class Closed(_Producer):
        async def send_batch(self, batch: _Builder, topic: str, *, partition: int) -> asyncio.Future[Any]:
            raise KafkaError("closed")

    batches = OpenBatches(timeout_s=NEVER_S, max_pending=1)
    for number in range(2):  # the room is given back
        with pytest.raises(KafkaError):
            await put(batches, Closed(), number)


class _Slow(_Producer):
    """Takes batches only once its door is open, as one that has to ask for metadata first."""

    def __init__(self) -> None:
        super().__init__()
        self.door = asyncio.get_running_loop().create_future()
        self.has_asked = asyncio.Event()

    async def send_batch(self, batch: _Builder, topic: str, *, partition: int) -> asyncio.Future[Any]:
        self.has_asked.set()
        await asyncio.wait([self.door])
        return await super().send_batch(batch, topic, partition=partition)


@in_loop
async def test_a_batch_that_has_to_wait_for_the_producer_is_sent_once_and_before_those_behind_it() -> None:
    producer, batches = _Slow(), OpenBatches(timeout_s=NEVER_S, max_pending=100)
    first = put(batches, producer, 0)
    await producer.has_asked.wait()
    second = put(batches, producer, 1)
    await asyncio.sleep(0)
    producer.door.set_result(None)
    for place in (0, 1):
        values, fate = await producer.batch(place)
        assert values == [b"%d" % place]
        fate.set_result(_Offset(place))
    assert await asyncio.gather(first, second) == [0, 1]
    assert len(producer.sent) == 2


@in_loop
async def test_a_producer_that_never_takes_a_batch_is_waited_for_no_longer_than_an_answer() -> None:
    producer, batches = _Slow(), OpenBatches(timeout_s=SOON_S, max_pending=1)
    for number in range(2):  # the room is given back
        with pytest.raises(TimeoutError):
            await put(batches, producer, number)
    assert producer.sent == []


@in_loop
async def test_closing_tells_whoever_waits_for_the_producer_to_take_a_batch() -> None:
    producer, batches = _Slow(), OpenBatches(timeout_s=NEVER_S, max_pending=100)
    sends = [put(batches, producer, 0)]
    await producer.has_asked.wait()
    await asyncio.sleep(0)
    sends.append(put(batches, producer, 1))
    await asyncio.sleep(0)
    await batches.close()
    errors = await asyncio.gather(*sends, return_exceptions=True)
    assert [type(error) for error in errors] == [TimeoutError, TimeoutError]
    assert producer.sent == []


@in_loop
async def test_a_late_answer_gives_back_the_room_that_its_records_had() -> None:
    producer, batches = _Producer(), OpenBatches(timeout_s=SOON_S, max_pending=1)
    for number in range(2):  # the second finds no room
        with pytest.raises(TimeoutError):
            await put(batches, producer, number)
    assert len(producer.sent) == 1
    (await producer.batch(0))[1].set_result(_Offset(7))
    await asyncio.sleep(0)
    third = put(batches, producer, 2)
    values, fate = await producer.batch(1)
    assert values == [b"2"]
    fate.set_result(_Offset(8))
    await asyncio.wait([third])
