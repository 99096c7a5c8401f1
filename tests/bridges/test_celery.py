"""Celery's words: what a task says with them is what our worker does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from logqueue.celery import BoundTask, Celery, RetryAsked
from logqueue.clock import SystemClock
from logqueue.jobs.errors import InvalidArguments, JobFailed, WaitTimeout
from tests.consumers.conftest import Log, working


def while_working(celery: Celery, ask: Callable[[], Any]) -> Any:
    """Call blocking code, as a web application would, while a worker runs."""

    async def run() -> Any:
        async with working(celery.app):
            try:
                return await asyncio.to_thread(ask)
            finally:
                await asyncio.to_thread(celery.close)

    return asyncio.run(run())


def test_a_delayed_call_is_run_by_a_worker_and_its_result_comes_back(log: Log) -> None:
    celery = Celery(log.name, settings=log.settings)

    @celery.task
    def add(x: int, y: int = 1) -> int:
        return x + y

    def ask() -> tuple[Any, ...]:
        first, second = add.delay(1, 2), add.delay(x=4)
        return first.get(timeout=20), second.get(timeout=20), first.state, celery.AsyncResult(first.id).get(timeout=20)

    assert while_working(celery, ask) == (3, 5, "SUCCESS", 3)
    assert add(2, 2) == 4


def test_a_bound_task_retries_as_often_as_it_may_and_then_fails_with_its_own_error(log: Log) -> None:
    celery = Celery(log.name, settings=log.settings)
    seen: list[tuple[str, int]] = []

    @celery.task(bind=True, max_retries=2, default_retry_delay=0)
    def flaky(self: BoundTask, *, n: int) -> None:
        seen.append((self.request.id, self.request.retries))
        try:
            raise OSError(f"no {n}")
        except OSError as error:
            self.retry(exc=error)

    def ask() -> tuple[str, str, str]:
        result = flaky.delay(n=7)
        with pytest.raises(JobFailed, match="OSError: no 7"):
            result.get(timeout=20)
        return result.id, result.state, result.get(propagate=False)

    id_, state, text = while_working(celery, ask)
    assert seen == [(id_, 0), (id_, 1), (id_, 2)]
    assert (state, text) == ("FAILURE", "no 7")


def test_only_the_errors_that_are_named_are_retried_by_themselves(log: Log) -> None:
    celery = Celery(log.name, settings=log.settings)
    seen: list[str] = []

    @celery.task(autoretry_for=(ConnectionError,), retry_backoff=0.01, max_retries=3)
    async def fetch(kind: str) -> str:
        seen.append(kind)
        if kind == "value":
            raise ValueError(kind)
        if len(seen) < 2:
            raise ConnectionError(kind)
        return "done"

    def ask() -> tuple[Any, Any]:
        return fetch.delay("connection").get(timeout=20), fetch.delay("value").get(timeout=20, propagate=False)

    assert while_working(celery, ask) == ("done", "value")
    assert seen == ["connection"] * 2 + ["value"]


def test_options_of_apply_async_become_those_of_the_job(log: Log) -> None:
    celery = Celery(log.name, settings=log.settings)

    @celery.task(queues=["mail", "slow"])
    def send(to: str) -> str:
        return to

    soon = datetime.now(UTC).replace(tzinfo=None) + timedelta(milliseconds=50)

    def ask() -> list[Any]:
        slow = send.apply_async(("a",), queue="slow", countdown=0.01, task_id="my-own")
        later = send.apply_async(kwargs={"to": "b"}, eta=soon, expires=60, tenant="acme")
        late = send.apply_async(("c",), countdown=3600)
        with pytest.raises(WaitTimeout):
            late.get(timeout=0.2)
        return [
            slow.id,
            slow.handle.queue,
            slow.get(timeout=20),
            later.handle.tenant,
            later.get(timeout=20),
            late.state,
        ]

    assert while_working(celery, ask) == ["my-own", "slow", "a", "acme", "b", "PENDING"]


def test_wrong_arguments_and_queues_are_told_before_anything_is_sent() -> None:
    celery = Celery("shop")

    @celery.task
    def send(to: str) -> str:
        return to

    for wrong in (lambda: send.delay(), lambda: send.delay(1), lambda: send.delay("a", "b")):
        with pytest.raises(InvalidArguments):
            wrong()
    with pytest.raises(InvalidArguments, match="queues="):
        send.apply_async(("a",), queue="other")
    with pytest.raises(InvalidArguments, match="tells no time"):
        celery.AsyncResult("my-own")


def test_words_of_celery_that_are_not_here_say_what_to_write() -> None:
    celery = Celery("words")

    @celery.task
    def add(x: int, y: int) -> int:
        return x + y

    with pytest.raises(AttributeError, match=r"no \.s here: workflows are made of `task.definition.prepare"):
        add.s(1, 2)  # type: ignore[operator]
    with pytest.raises(AttributeError, match="call the task"):
        add.apply((1, 2))  # type: ignore[operator]
    assert not hasattr(add, "colour")
    with pytest.raises(InvalidArguments, match="run_at='tomorrow' is not a datetime"):
        add.apply_async((1, 2), eta="tomorrow")  # type: ignore[arg-type]


def test_the_wait_that_a_task_asks_for_is_the_one_it_gets() -> None:
    import random

    celery = Celery("shop")

    @celery.task(max_retries=5)
    def task() -> None: ...

    decision = task.definition.retry.decide(1, RetryAsked(42, None), random.Random(1), now_s=0.0)
    assert (decision.should_retry, decision.delay_s) == (True, 42.0)
    assert not task.definition.retry.decide(1, ValueError(), random.Random(1)).should_retry


def test_tasks_follow_their_app_to_another_log(log: Log) -> None:
    celery = Celery(log.name, settings=log.settings)

    @celery.task
    def add(x: int, y: int) -> int:
        return x + y

    other = replace(log.settings, topic_prefix=f"{log.settings.topic_prefix}other.")
    found = [add.delay(1, 2).handle.topic]
    with celery.app.placed_on(other, group="g", clock=SystemClock()):
        found.append(add.delay(1, 2).handle.topic)
    found.append(add.delay(1, 2).handle.topic)
    celery.close()
    assert found == [each.topics.jobs("default") for each in (log.settings, other, log.settings)]


PROGRAM = """
import sys
from logqueue.celery import Celery
from logqueue.jobs.settings import Settings

celery = Celery("shop", settings=Settings(bootstrap=sys.argv[1], topic_prefix=sys.argv[2]))


@celery.task
def add(x: int, y: int) -> int:
    return x + y


print(add, add.delay(1, 2).state)
"""


def test_a_program_that_closes_nothing_ends_without_a_word(log: Log) -> None:
    command = [sys.executable, "-X", "dev", "-c", PROGRAM, log.settings.bootstrap, log.settings.topic_prefix]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "<@task: __main__.add of shop> PENDING\n"
    for word in ("Unclosed", "destroyed", "Traceback"):  # aiokafka may tell of a topic that is being made
        assert word not in done.stderr
