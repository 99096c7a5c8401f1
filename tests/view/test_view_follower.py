"""What the view's follower says of how far it is."""

from __future__ import annotations

import asyncio

from logqueue_consumers.view.batches import BatchReader
from logqueue_consumers.view.follower import Follower, FollowLimits
from logqueue_schemas.job_status import StatusCodec

from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.settings import Settings
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
