"""While the log cannot be read the fold's parent hears of it; where it never can be read again, the fold ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from aiokafka.errors import CorruptRecordException, KafkaError
from logqueue_consumers.view.alignment import Read
from logqueue_consumers.view.batches import BatchReader
from logqueue_consumers.view.fold import Fold
from logqueue_consumers.view.follower import Follower
from logqueue_consumers.view.reports import Report, Reporter
from logqueue_consumers.view.store import ViewStore
from logqueue_schemas.job_status import StatusCodec

from logqueue.ids import TopicPartition
from logqueue.jobs.schema_source import Registry
from logqueue.jobs.steady_fetch import FetchingEnded
from logqueue.jobs.topics import TopicNames
from tests.loops import in_loop

WAIT_SECONDS = 30


class _Follower:
    """Raises the same at every read."""

    cluster_id = "cluster-1"

    def __init__(self, error: KafkaError) -> None:
        self._error = error

    async def read(self, *, timeout: float, of: Iterable[TopicPartition] = (), most: int | None = None) -> Read:
        raise self._error

    def assigned(self) -> list[TopicPartition]:
        return []

    def start_at(self, positions: Mapping[TopicPartition, int]) -> None:
        return None

    async def is_same_log(self, cluster_id: str) -> bool:
        return True

    async def discover(self) -> None:
        return None

    def lag(self) -> int:
        return 7

    def passed_lately(self) -> Mapping[TopicPartition, int]:
        return {}

    passed = passed_lately


@asynccontextmanager
async def folding(error: KafkaError, path: Path) -> AsyncIterator[tuple[asyncio.Task[None], asyncio.Queue[Report]]]:
    """A fold that cannot read, and its reports."""
    store = ViewStore.open(path / "view.db", cluster_id="cluster-1")
    reports: asyncio.Queue[Report] = asyncio.Queue()
    fold = Fold(
        follower=cast(Follower, _Follower(error)),
        store=store,
        reader=BatchReader(TopicNames(), StatusCodec(7)),
        registry=cast(Registry, SimpleNamespace()),
        reporter=cast(Reporter, SimpleNamespace(add=lambda report, **_: reports.put_nowait(report))),
        discovery_interval=60,
    )
    running = asyncio.create_task(fold.run())
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            yield running, reports
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        store.close()


@in_loop
async def test_a_fold_that_cannot_read_goes_on_telling_how_far_behind_it_is(tmp_path: Path) -> None:
    async with folding(CorruptRecordException("Invalid CRC"), tmp_path) as (running, reports):
        told = [await reports.get() for _ in range(3)]
        assert [report.lag for report in told] == [0, 7, 7]
        assert not any(report.is_caught_up for report in told)
        assert not running.done()


@in_loop
async def test_a_fold_that_can_never_read_again_ends_with_the_reason(tmp_path: Path) -> None:
    async with folding(FetchingEnded("for good"), tmp_path) as (running, _):
        with pytest.raises(FetchingEnded, match="for good"):
            await running
