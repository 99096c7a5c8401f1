"""The control topic as a process knows it: read before anything begins, followed, swept. On every engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from logqueue_api.rest import control_watch
from logqueue_api.rest.control_watch import ControlWatch
from logqueue_consumers.control.command_writer import CommandWriter
from logqueue_consumers.control.sweep import GRACE_MS
from logqueue_consumers.control.tail import ControlTail
from logqueue_consumers.view.job import State

from logqueue.clock import SystemClock
from logqueue.jobs.control import Change, cancel_command, fold, withdraw
from tests.consumers.conftest import Log, until
from tests.loops import in_loop


@asynccontextmanager
async def writing(log: Log) -> AsyncIterator[CommandWriter]:
    writer = CommandWriter(log.settings)
    try:
        yield writer
    finally:
        await writer.stop()


@asynccontextmanager
async def following(tail: ControlTail) -> AsyncIterator[list[Change]]:
    told: list[Change] = []
    tail.listeners.append(told.extend)
    running = asyncio.create_task(tail.run())
    try:
        yield told
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await tail.stop()


async def has(value: Any) -> Any:
    return value


@in_loop
async def test_what_stands_is_known_before_anything_begins_and_news_are_told(log: Log) -> None:
    async with writing(log) as writer:
        await writer.write([cancel_command(str(n), replay=0, by="a", at_ms=n) for n in range(2_500)])
        tail = ControlTail(log.settings)
        await tail.start()
        assert len(tail.state.cancels) == 2_500
        async with following(tail) as told:
            await writer.write(
                [withdraw("cancel/7", by="a", at_ms=1), cancel_command("new", replay=0, by="b", at_ms=2)]
            )
            await until(lambda: has(list(told)), lambda found: len(found) == 2)
            assert told == [Change("cancel/", "7", False), Change("cancel/", "new", True)]
            assert "7" not in tail.state.cancels and tail.state.cancels["new"].by == "b"


@in_loop
async def test_every_command_is_in_the_audit_topic_in_one_order_with_who_and_when(log: Log) -> None:
    async with writing(log) as writer:
        await writer.write([cancel_command("j", replay=0, by="ann", at_ms=5, reason="why")])
        await writer.write([withdraw("cancel/j", by="bob", at_ms=6)])
        await writer.withdraw(["cancel/k"], at_ms=7)
    told = [record.value for record in await log.read(log.settings.topics.audit)]
    assert told == [
        b'{"event":"cancel","subject":"j","by":"ann","at":5,"value":{"replay":0,"reason":"why"}}',
        b'{"event":"cancel.withdrawn","subject":"j","by":"bob","at":6,"value":null}',
    ]
    assert not fold((r.key, r.value) for r in await log.read(log.settings.topics.control)).cancels


@in_loop
async def test_a_topic_that_was_made_anew_takes_back_what_was_known(log: Log) -> None:
    async with writing(log) as writer:
        await writer.write([cancel_command(str(n), replay=0, by="a", at_ms=n) for n in range(3)])
    tail = ControlTail(log.settings)
    await tail.start()
    await tail.stop()
    admin = AIOKafkaAdminClient(bootstrap_servers=log.settings.bootstrap)
    await admin.start()
    await admin.delete_topics([log.settings.topics.control])
    await until(admin.list_topics, lambda topics: log.settings.topics.control not in topics)
    await admin.close()
    async with writing(log) as writer:
        await writer.write([cancel_command("new", replay=0, by="a", at_ms=1)])
        async with following(tail) as told:
            await until(lambda: has(set(tail.state.cancels)), lambda found: found == {"new"})
            assert {change.subject for change in told if not change.is_set} == {"0", "1", "2"}


def test_the_api_sweeps_what_stands_for_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_watch, "SWEEP_SECONDS", 0.05)

    class View:
        """As much of a view as the watch asks for: the job `ended` has, every other one waits."""

        is_caught_up = True

        def job(self, key: Any) -> Any:
            state = State.SUCCEEDED if key.id == "ended" else State.QUEUED
            return SimpleNamespace(key=key, outcome=SimpleNamespace(replay=0, state=state))

    async def main() -> None:
        clock = SystemClock()
        old = clock.time_ms() - GRACE_MS - 1
        async with writing(log) as writer:
            await writer.write([cancel_command(name, replay=0, by="a", at_ms=old) for name in ("ended", "waits")])
            watch = ControlWatch(log.settings, view=View(), writer=writer, clock=clock)  # type: ignore[arg-type]
            running = asyncio.create_task(watch.run())
            await until(lambda: has(set(watch.tail.state.cancels)), lambda found: found == {"waits"})
            asked = watch.asked_of(SimpleNamespace(  # type: ignore[arg-type]
                key=SimpleNamespace(id="waits", shadow=""), outcome=SimpleNamespace(replay=0, state=State.QUEUED)
            ))  # fmt: skip
            assert asked["cancel_requested"]["by"] == "a"
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
