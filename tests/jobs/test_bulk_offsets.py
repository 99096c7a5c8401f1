"""The offsets in the handles of many jobs, as the log tells them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer

from logqueue.jobs.client import JobClient
from logqueue.jobs.handle import UNKNOWN_OFFSET
from logqueue.jobs.sending import prepare_job
from logqueue.jobs.settings import Settings
from tests.loops import in_loop


class _Builder:
    def append(self, **_: Any) -> object:
        return self

    def close(self) -> None: ...


class _Producer:
    """Confirms every batch at once, from the same offset on."""

    def __init__(self, base_offset: int) -> None:
        self.base_offset = base_offset

    def create_batch(self) -> _Builder:
        return _Builder()

    async def send_batch(self, _: _Builder, topic: str, *, partition: int) -> asyncio.Future[Any]:
        fate: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        fate.set_result(SimpleNamespace(topic=topic, partition=partition, offset=self.base_offset))
        return fate


class _Client(JobClient):
    def __init__(self, base_offset: int) -> None:
        super().__init__(Settings())
        self.made = cast(AIOKafkaProducer, _Producer(base_offset))

    async def ready(self, queue: str, priority: str | None = None) -> tuple[AIOKafkaProducer, str, int]:
        return self.made, f"jobs.{queue}", 1


@pytest.mark.parametrize(
    ("base_offset", "offsets"), [(0, [0, 1, 2]), (7, [7, 8, 9]), (UNKNOWN_OFFSET, [UNKNOWN_OFFSET] * 3)]
)
def test_jobs_of_a_batch_follow_each_other_unless_the_log_does_not_tell_where(
    base_offset: int, offsets: list[int]
) -> None:
    @in_loop
    async def scenario() -> None:
        jobs = [prepare_job(type="t", queue="q", value=b"{}", source="s", now_ms=1) for _ in range(3)]
        assert [handle.offset for handle in await _Client(base_offset).send_many(jobs)] == offsets

    scenario()
