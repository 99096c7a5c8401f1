"""When all jobs have run, committed offsets are where the log ends: behind markers and aborted records too."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from aiokafka import AIOKafkaProducer, TopicPartition
from logqueue_consumers.topics.listing import partition_counts

from logqueue.jobs.connection import new_reader
from tests.consumers.conftest import Log, until, working
from tests.consumers.exactly_once.marked_shop import THROUGH_TOPICS, Shop
from tests.loops import in_loop

OFFSETS_TOPIC = "__consumer_offsets"
COMMIT_INTERVALS = 20


async def commits_of(log: Log, group: str) -> int:
    """Records that the group's commits have left in the offsets topic, one for each partition of each commit."""
    count = (await partition_counts(log.settings))[OFFSETS_TOPIC]
    places = [TopicPartition(OFFSETS_TOPIC, number) for number in range(count)]
    reader = new_reader(log.settings)
    await reader.start()
    try:
        reader.assign(places)
        for place, begin in (await reader.beginning_offsets(places)).items():
            reader.seek(place, begin)
        ends, found = await reader.end_offsets(places), 0
        while any([await reader.position(place) < end for place, end in ends.items()]):
            for records in (await reader.getmany(timeout_ms=200)).values():
                found += sum(group.encode() in (record.key or b"") for record in records)
        return found
    finally:
        await reader.stop()


@in_loop
async def test_when_all_jobs_have_run_nothing_is_behind_though_markers_are_last(log: Log) -> None:
    shop = Shop(log)
    async with working(shop.app, limits=THROUGH_TOPICS) as worker:
        await shop.run_jobs()
        assert await shop.markers() > 0, "or this says nothing"
        assert await until(shop.behind, lambda found: not found) == {}
        assert worker.metrics().lag == 0
    assert await shop.behind() == {}, "nor when the worker has stopped"


@in_loop
async def test_an_idle_worker_commits_nothing_more(log: Log) -> None:
    shop = Shop(log)
    async with working(shop.app, limits=THROUGH_TOPICS):
        await shop.run_jobs()
        await until(shop.behind, lambda found: not found)
        before, ends = await commits_of(log, shop.app.group), await shop.ends()
        assert before > 0, "or this says nothing"
        await asyncio.sleep(COMMIT_INTERVALS * THROUGH_TOPICS.commit_interval_s)
        assert await commits_of(log, shop.app.group) == before
        assert await shop.ends() == ends


async def give_up(log: Log, topic: str, *, partition: int) -> None:
    """Leave two aborted records and their markers at the end of a partition."""
    async with AIOKafkaProducer(bootstrap_servers=log.settings.bootstrap, transactional_id=log.name) as producer:
        for _ in range(2):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"{}", partition=partition)
            await producer.abort_transaction()


@in_loop
async def test_what_a_sender_has_given_up_is_not_behind(log: Log) -> None:
    shop = Shop(log)
    async with working(shop.app, limits=THROUGH_TOPICS) as worker:
        topic = log.settings.topics.jobs("q")
        await give_up(log, topic, partition=1)
        assert (await shop.ends())[TopicPartition(topic, 1)] == 4
        assert await until(shop.behind, lambda found: not found) == {}
        assert worker.metrics().lag == 0


@in_loop
async def test_a_partition_whose_flood_was_put_aside_and_read_again_ends_where_its_log_does(log: Log) -> None:
    shop = Shop(log)
    topic, jobs = log.settings.topics.jobs("next"), 300
    limits = replace(THROUGH_TOPICS, max_unfinished_per_partition=32)
    async with working(shop.app, limits=limits) as worker:
        await shop.app.send_many(
            shop.app.jobs["follow"].prepare(tenant="flood" if n % 10 else f"t{n}", n=n) for n in range(jobs)
        )
        await log.terminal(count=jobs)
        for partition in range(2):
            await give_up(log, topic, partition=partition)
        assert sum(end for tp, end in (await shop.ends()).items() if tp.topic == topic) == jobs + 8
        assert await until(shop.behind, lambda found: not found) == {}
        assert worker.metrics().lag == 0
