"""What a producer says that it has written, its caller knows too: commits are made in between."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from logqueue_consumers.writing import batch_producer
from logqueue_consumers.writing.batch_producer import BatchProducer
from logqueue_consumers.writing.outgoing import Outgoing

from logqueue.jobs.errors import BrokerUnreachable
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


class SmallLog(SlowLog):
    """Takes one record at a time, and answers at once."""

    def __init__(self, keys: list[bytes]) -> None:
        super().__init__()
        self.keys = keys
        self.batch: list[bytes] = []

    def create_batch(self) -> SmallLog:
        self.batch = []
        return self

    def append(self, **record: Any) -> object:
        self.batch.append(record["key"])
        return record

    async def send_batch(self, batch: object, topic: str, *, partition: int) -> asyncio.Future[Acknowledged]:
        sent = asyncio.get_running_loop().create_future()
        if len(self.batch) > 1:
            sent.set_exception(MessageSizeTooLargeError())
        else:
            self.keys += self.batch
            sent.set_result(Acknowledged(len(self.keys) - 1))
        return sent


@pytest.mark.parametrize("away_at", [1, 2, 3])
def test_a_log_that_goes_away_while_records_go_alone_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, away_at: int
) -> None:
    keys: list[bytes] = []
    connections = 0

    async def connect(make: object, settings: Settings) -> SmallLog:
        nonlocal connections
        connections += 1
        if connections == away_at + 1:  # the first one is that of the start
            raise BrokerUnreachable("No Kafka broker answers")
        return SmallLog(keys)

    @in_loop
    async def scenario() -> None:
        monkeypatch.setattr(batch_producer, "start_client", connect)
        monkeypatch.setattr(batch_producer, "FIRST_BACKOFF_S", 0.0)
        producer = BatchProducer(Settings(bootstrap="nowhere:1"), batch_bytes=1000, max_backoff_s=0.0)
        await producer.start()
        records = [Outgoing("t", 0, key, b"", [], 0) for key in (b"a", b"b", b"c")]
        assert await producer.send(records) == []
        assert keys == [b"a", b"b", b"c"]
        await producer.stop()

    scenario()
