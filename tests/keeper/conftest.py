"""Keepers under test on a real engine: a small machine, topics of the test's own, an index folder of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from logqueue_consumers.keeper.keepers import Keepers
from logqueue_consumers.keeper.kept_partition import KeeperLimits
from logqueue_consumers.keeper.machine import KeeperSpec

from logqueue.clock import Clock
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicSpec
from tests.conftest import Engine
from tests.consumers.conftest import Log

QUICK = KeeperLimits(first_backoff_s=0.05, longest_sleep_s=0.5, fetch_wait_ms=100)
PATIENCE_S = 60.0


@pytest.fixture
def settings(engine: Engine, prefix: str, tmp_path: Path) -> Settings:
    """Topics, groups and index files of this test's own."""
    return Settings(bootstrap=engine.bootstrap, topic_prefix=f"{prefix}.", cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def log(settings: Settings, prefix: str) -> Log:
    """The log as others see it."""
    return Log(settings, prefix)


@asynccontextmanager
async def keeping(
    settings: Settings,
    specs: list[KeeperSpec],
    topics: list[TopicSpec],
    *,
    clock: Clock | None = None,
    limits: KeeperLimits = QUICK,
) -> AsyncIterator[Keepers]:
    """Keepers in this loop, from their first assignment until the block ends."""
    await ensure_topics(settings, topics)
    keepers = Keepers(settings, specs, topics, clock=clock, limits=limits)
    task = asyncio.create_task(keepers.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await keepers.has_joined.wait()
        yield keepers
    finally:
        is_over = task.done()
        task.cancel()
        await asyncio.wait((task,))
        assert not is_over, task.exception()
