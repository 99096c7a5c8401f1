"""What a producer says that it has written, its caller knows too: commits are made in between."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest
from logqueue_consumers.writing import batch_producer
from logqueue_consumers.writing.batch_producer import BatchProducer
from logqueue_consumers.writing.outgoing import Outgoing

from logqueue.jobs.settings import Settings
from tests.loops import in_loop


class Acknowledged(NamedTuple):
    """What aiokafka says of a batch."""

    offset: int


class SlowLog:
    """As an aiokafka producer; a test acknowledges the batches of each partition."""

    def __init__(self) -> None:
        self.sent: dict[int, asyncio.Future[Acknowledged]] = {}
        self.has_sent = asyncio.Event()

    async def start(self) -> None:
        """It is there."""

    async def stop(self) -> None:
        """It is gone."""

    def create_batch(self) -> SlowLog:
        """A batch, which takes everything."""
        return self

    def append(self, **record: Any) -> object:
        """Take a record."""
        return record

    async def send_batch(self, batch: object, topic: str, *, partition: int) -> asyncio.Future[Acknowledged]:
        """A batch is on its way."""
        self.sent[partition] = asyncio.get_running_loop().create_future()
        if len(self.sent) == 2:
            self.has_sent.set()
        return self.sent[partition]


def test_where_a_write_ends_is_said_when_all_of_it_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    @in_loop
    async def scenario() -> None:
        log = SlowLog()
        monkeypatch.setattr(batch_producer, "AIOKafkaProducer", lambda **_: log)
        producer = BatchProducer(Settings(bootstrap="nowhere:1"), batch_bytes=1000, max_backoff_s=1.0)
        await producer.start()
        records = [Outgoing("t", number, b"", b"", [], 0) for number in (0, 1)]
        writing = asyncio.create_task(producer.send(records))
        await log.has_sent.wait()
        log.sent[0].set_result(Acknowledged(7))
        for _ in range(10):
            await asyncio.sleep(0)
        assert (producer.end_of("t", 0), producer.end_of("t", 1)) == (None, None)
        log.sent[1].set_result(Acknowledged(3))
        assert await writing == []
        assert (producer.end_of("t", 0), producer.end_of("t", 1)) == (8, 4)
        await producer.stop()

    scenario()
