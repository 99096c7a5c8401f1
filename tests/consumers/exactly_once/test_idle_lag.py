"""When all jobs have run, committed offsets are where the log ends: behind markers and aborted records too."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from aiokafka import AIOKafkaProducer, TopicPartition
from logqueue_consumers.topic_list import partition_counts

from logqueue import App, Retry
from logqueue.jobs.connection import new_reader
from logqueue.jobs.context import JobContext
from logqueue.jobs.settings import EXACTLY_ONCE
from tests.consumers.conftest import FAST, Log, until, working
from tests.loops import in_loop

OFFSETS_TOPIC = "__consumer_offsets"
THROUGH_TOPICS = replace(FAST, memory_retry_delay_s=0.0)
"""Every retry goes through the retry topic."""
JOBS = 12
COMMIT_INTERVALS = 20


class Shop:
    """An app whose jobs leave markers in each of its topics: some are retried, one dies, the others are followed up."""

    def __init__(self, log: Log) -> None:
        self.app = app = App(log.name, settings=log.settings, processing=EXACTLY_ONCE)
        app.queue("q", order="none", partitions=2)
        app.queue("next", order="none", partitions=2)
        self.log = log
        names = log.settings.topics
        self.topics = [
            topic
            for queue in ("q", "next")
            for topic in (names.jobs(queue), names.retry(queue, app.group), names.parked(queue, app.group))
        ]

        @app.job("follow", queue="next")
        async def follow(*, n: int) -> int:
            return n

        @app.job("work", queue="q", retry=Retry(attempts=2, first=0.01))
        async def work(ctx: JobContext, *, n: int) -> None:
            if n % 3 == 0 and (ctx.attempt == 1 or n == 0):
                raise ValueError(n)
            ctx.send(follow.prepare(n=n))

        self._work = work

    async def run_jobs(self) -> None:
        """Return when all of them have ended."""
        for n in range(JOBS):
            await self._work.send(tenant=f"t{n}", n=n)
        await self.log.terminal(count=2 * JOBS - 1)

    async def ends(self) -> dict[TopicPartition, int]:
        """Where the topics that the worker reads end."""
        counts = await partition_counts(self.log.settings)
        reader = new_reader(self.log.settings)
        await reader.start()
        try:
            partitions = [TopicPartition(topic, n) for topic in self.topics for n in range(counts[topic])]
            return dict(await reader.end_offsets(partitions))
        finally:
            await reader.stop()

    async def behind(self) -> dict[TopicPartition, int]:
        """How far the group's commits are behind the ends, where they are."""
        ends, committed = await self.ends(), await self.log.committed(self.app.group)
        return {tp: lag for tp, end in ends.items() if (lag := end - committed.get(tp, (0, ""))[0])}

    async def markers(self) -> int:
        """Offsets that hold no record."""
        return sum((await self.ends()).values()) - sum([len(await self.log.read(topic)) for topic in self.topics])


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


@in_loop
async def test_what_a_sender_has_given_up_is_not_behind(log: Log) -> None:
    shop = Shop(log)
    async with working(shop.app, limits=THROUGH_TOPICS) as worker:
        topic = log.settings.topics.jobs("q")
        async with AIOKafkaProducer(bootstrap_servers=log.settings.bootstrap, transactional_id=log.name) as producer:
            for _ in range(2):
                await producer.begin_transaction()
                await producer.send_and_wait(topic, b"{}", partition=1)
                await producer.abort_transaction()
        assert (await shop.ends())[TopicPartition(topic, 1)] == 4
        assert await until(shop.behind, lambda found: not found) == {}
        assert worker.metrics().lag == 0
