"""At least once: what a killed worker had written counts, whichever of its records were the last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from logqueue_consumers.lab.job_lab import LIMITS
from logqueue_consumers.writing.batch_producer import BatchProducer
from logqueue_consumers.writing.outgoing import Outgoing, Refusal

from logqueue import App, Retry
from logqueue.jobs.connection import start_client, stop_client
from logqueue.jobs.context import JobContext
from logqueue.jobs.errors import Permanent, Snooze
from tests.loops import in_loop

RARELY = replace(LIMITS, commit_interval_s=3600.0, drain_timeout_s=0.02, revoke_grace_s=0.02)
"""Nothing is committed between a job's end and the end of its worker."""


@pytest.fixture
def lab_of(logqueue_lab: Any) -> Any:
    return logqueue_lab


class Mill:
    """An app whose jobs fail, snooze, and end as planned."""

    def __init__(self) -> None:
        self.app = app = App("mill", processing="at_least_once")
        app.queue("grain", order="none", partitions=1)
        self.begun: list[int] = []
        self.plan: list[str] = []

        @app.job("grind", queue="grain", retry=Retry(3, first="60s", jitter=0.0))
        async def grind(ctx: JobContext) -> None:
            self.begun.append(ctx.attempt)
            match self.plan.pop(0) if self.plan else "ok":
                case "fail":
                    raise ConnectionError("planned")
                case "fatal":
                    raise Permanent("planned")
                case "nap":
                    raise Snooze("10s")
                case "sleep":
                    raise Snooze("90s")

        self.grind = grind


class Cut:
    """Stops workers for good between a record that is durable in a topic and the statuses that come next."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, behind: str, before: str) -> None:
        self.reached = asyncio.Event()
        self._behind, self._before = behind, before
        self._is_written = False
        send = BatchProducer.send

        async def cut_send(producer: BatchProducer, records: Sequence[Outgoing]) -> list[Refusal]:
            topics = {record.topic for record in records}
            if self._is_written and not self.reached.is_set() and self._before in topics:
                self.reached.set()
                await asyncio.Event().wait()
            refusals = await send(producer, records)
            self._is_written = self._is_written or self._behind in topics
            return refusals

        monkeypatch.setattr(BatchProducer, "send", cut_send)


@pytest.mark.parametrize(
    ("plan", "delay", "kind", "attempts", "states"),
    [
        ("fail", 0, "schedules", [1, 2], ["retrying(1)", "queued(2)", "succeeded(2)"]),
        ("sleep", 0, "schedules", [1, 1], ["scheduled(1)", "queued(1)", "succeeded(1)"]),
        ("fatal", 0, "dlq", [1], ["dead(1)"]),
        ("ok", 5, "retry", [1], ["scheduled(1)", "succeeded(1)"]),
    ],
)
def test_a_job_that_moved_on_before_its_worker_was_killed_does_not_run_from_where_it_was(
    lab_of: Any,
    monkeypatch: pytest.MonkeyPatch,
    plan: str,
    delay: int,
    kind: str,
    attempts: list[int],
    states: list[str],
) -> None:
    @in_loop
    async def scenario() -> None:
        mill = Mill()
        mill.plan = [plan]
        async with lab_of(mill.app, patience="20ms") as lab:
            names, group = mill.app.settings.topics, mill.app.group
            behind = names.schedules if kind == "schedules" else getattr(names, kind)("grain", group)
            cut = Cut(monkeypatch, behind=behind, before=names.status)
            job = await mill.grind.with_(tenant="acme", **({"delay": delay} if delay else {})).send()
            await cut.reached.wait()
            await lab.crash_worker()
            await lab.advance("1h")
            found = await lab.job(job)
            written = [f"{status.state}({status.attempt})" for status in found.history if status.state != "running"]
            assert (mill.begun, written) == (attempts, states)
            if plan == "fail":
                assert found.history[0].error_type == "ConnectionError"
            await lab.crash_worker()
            await lab.advance("1h")
            assert len((await lab.job(job)).history) == len(found.history)
            assert len(mill.begun) == len(attempts)

    scenario()


def test_a_job_that_left_memory_before_its_worker_was_killed_does_not_run_from_where_it_was(
    lab_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    @in_loop
    async def scenario() -> None:
        mill = Mill()
        mill.plan = ["nap"]
        async with lab_of(mill.app, patience="20ms") as lab:
            names, group = mill.app.settings.topics, mill.app.group
            job = await mill.grind.send()
            await lab.assert_status(job, "scheduled")
            cut = Cut(monkeypatch, behind=names.retry("grain", group), before=names.status)
            (worker,) = lab.workers
            stopping = asyncio.ensure_future(lab.stop_worker(worker))
            await cut.reached.wait()
            await lab.crash_worker(worker)
            await asyncio.wait((stopping,))
            assert mill.begun == [1]
            await lab.advance("1h")
            await lab.assert_status(job, "succeeded", attempt=1)
            assert mill.begun == [1, 1]

    scenario()


def test_an_end_behind_a_transaction_that_somebody_left_open_counts_too(lab_of: Any) -> None:
    @in_loop
    async def scenario() -> None:
        mill = Mill()
        async with lab_of(mill.app, patience="20ms", limits=RARELY) as lab:
            settings = mill.app.settings
            other = await start_client(
                lambda: AIOKafkaProducer(**settings.connection(), transactional_id="somebody-else"), settings
            )
            try:
                await other.begin_transaction()
                for number in range(len(await other.partitions_for(settings.topics.status))):
                    await other.send_and_wait(settings.topics.status, None, key=b"other", partition=number)
                job = await mill.grind.send()
                await lab.drain()
                assert mill.begun == [1]
                await lab.crash_worker(replace=False)
                starting = asyncio.ensure_future(lab.start_worker())
                await asyncio.wait((starting,), timeout=1.0)
                await other.abort_transaction()
                await starting
            finally:
                await stop_client(other)
            await lab.assert_status(job, "succeeded", attempt=1)
            assert mill.begun == [1]

    scenario()
