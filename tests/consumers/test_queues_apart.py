"""Workers of one app with different queues are one group: whoever leads it shares out topics that it does not run."""

from __future__ import annotations

import asyncio

from tests.consumers.conftest import Log, working


def test_workers_of_different_queues_share_a_group(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        app.queue("one", partitions=2)
        app.queue("other", partitions=2)

        @app.job("first", queue="one")
        async def first() -> str:
            return "first"

        @app.job("second", queue="other")
        async def second() -> str:
            return "second"

        async with working(app, queues=["one"]) as leader, working(app, queues=["other"]) as follower:
            jobs = [await first.send(tenant="a"), await second.send(tenant="b")]
            assert [(await job.wait(timeout=60)).result for job in jobs] == ["first", "second"]
            for running, queue in ((leader, "one"), (follower, "other")):
                assert running.worker is not None and running.worker.member is not None
                assert {tp.topic for tp in running.worker.member.partitions} == {
                    log.settings.topics.jobs(queue),
                    log.settings.topics.retry(queue, app.group),
                    log.settings.topics.parked(queue, app.group),
                }

    asyncio.run(main())
