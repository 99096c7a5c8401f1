"""A member of a group that is stopped in the middle of a join. The client is a double: real ones time it too seldom."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from logqueue_consumers.group_member import GroupMember
from logqueue_consumers.limits import WorkerLimits


class Connections:
    async def close(self) -> None:
        return


class Joining:
    """A consumer whose join is under way until it is cancelled; stopping, it still tells of an assignment."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self._client = Connections()
        self._listener: Any = None

    def subscribe(self, *, topics: list[str], listener: Any) -> None:
        assert topics
        self._listener = listener

    async def start(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise KafkaConnectionError("connection lost while joining") from None

    async def stop(self) -> None:
        await self._listener.on_partitions_assigned([TopicPartition("jobs.q", 0)])


class IdleEngine:
    """No job runs; what it is told of partitions is not what is tested here."""

    def __init__(self) -> None:
        self.outbox = self
        self.changed = asyncio.Event()

    def stop(self, partitions: Any) -> None:
        assert not list(partitions)

    async def wait_idle(self, *_: Any) -> bool:
        return True

    async def drain(self, _: float) -> bool:
        return True


def member_with(consumer: Joining) -> GroupMember:
    return GroupMember(
        IdleEngine(),  # type: ignore[arg-type]
        lambda: consumer,
        None,  # type: ignore[arg-type]
        group="g",
        topics={"jobs.q": None},  # type: ignore[dict-item]
        orders={},
        limits=WorkerLimits(),
        hurry=asyncio.Event(),
        on_ready=lambda: pytest.fail("a member that stops is not ready"),
        tail=None,
        status_ends=list,
    )


def test_a_member_stopped_while_it_joins_leaves_no_task_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        consumer, stopping = Joining(), asyncio.Event()
        member = member_with(consumer)
        running = asyncio.ensure_future(member.run(stopping))
        await consumer.begun.wait()
        stopping.set()
        await running
        await member.stop(drain_timeout_s=1.0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with caplog.at_level(logging.ERROR, logger="asyncio"):
        asyncio.run(main())
    assert not caplog.records
