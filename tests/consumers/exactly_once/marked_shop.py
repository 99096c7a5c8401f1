"""An app whose jobs leave markers of transactions in every topic that its worker reads."""

from __future__ import annotations

from dataclasses import replace

from aiokafka import TopicPartition
from logqueue_consumers.topics.listing import partition_counts

from logqueue import App, Retry
from logqueue.jobs.connection import new_reader
from logqueue.jobs.context import JobContext
from logqueue.jobs.settings import EXACTLY_ONCE
from tests.consumers.conftest import FAST, Log

THROUGH_TOPICS = replace(FAST, memory_retry_delay_s=0.0)
"""Every retry goes through the retry topic."""
JOBS = 12


class Shop:
    """Of its jobs some are retried, one dies, and the others are followed up."""

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
        """Where the topics that the worker reads end; with the markers of ended transactions."""
        await self.log.settled()
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
