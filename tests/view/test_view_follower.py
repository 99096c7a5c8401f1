"""What the view's follower says of how far it is, and that it passes over nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiokafka.errors import KafkaError
from logqueue_consumers.view.batches import BatchReader
from logqueue_consumers.view.follower import Follower, FollowLimits
from logqueue_schemas.job_status import StatusCodec

from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.settings import Settings
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create, produced
from tests.conftest import Engine
from tests.loops import in_loop

WAIT_SECONDS = 30


@in_loop
async def test_no_lag_is_known_before_the_topics_were_looked_for(engine: Engine, prefix: str) -> None:
    settings = Settings(bootstrap=engine.bootstrap, topic_prefix=prefix)
    await ensure_topics(settings, [settings.topics.status_spec()])
    reader = BatchReader(settings.topics, StatusCodec(7))
    async with Follower(settings, wanted=reader.reads, limits=FollowLimits()) as follower:
        for _ in range(2):  # so after a new start, too
            follower.start_at({})
            assert follower.lag() is None
            await follower.discover()
            async with asyncio.timeout(WAIT_SECONDS):
                while (lag := follower.lag()) is None:
                    await follower.read(timeout=0.02)
            assert lag == 0
            assert all(map(follower.is_at_end, follower.assigned()))


def test_a_partition_with_a_damaged_record_does_not_cost_the_records_of_another(tmp_path: Path) -> None:
    async def read(bootstrap: str, count: int) -> list[tuple[int, bytes | None]]:
        got: list[tuple[int, bytes | None]] = []
        settings = Settings(bootstrap=bootstrap)
        async with Follower(settings, wanted=lambda topic: topic == "t", limits=FollowLimits()) as follower:
            follower.start_at({})
            await follower.discover()
            async with asyncio.timeout(WAIT_SECONDS):
                while len(got) < count:
                    try:
                        for at, records in await follower.read(timeout=0.1):
                            got += [(at.partition, record.value) for record in records]
                    except KafkaError:
                        pass
        return got

    with EmbeddedBroker(tmp_path) as broker, Wire(broker.bootstrap) as wire:
        create(wire, "t", partitions=3)
        produced(wire, "t", batch(b"whole", b"damaged"), partition=1)
        for partition in (0, 2):
            produced(wire, "t", batch(b"a", b"b"), partition=partition)
        (segment,) = tmp_path.glob("t-1/*.log")
        segment.write_bytes(segment.read_bytes().replace(b"damaged", b"tampers"))
        got = asyncio.run(read(broker.bootstrap, 4))
    assert sorted(got) == [(0, b"a"), (0, b"b"), (2, b"a"), (2, b"b")]
