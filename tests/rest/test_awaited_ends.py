"""Requests that wait for the end of a job: woken by a report of it, with the job as the view has it then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from logqueue_api.rest.limits import ApiLimits
from logqueue_api.rest.problems import Problem
from logqueue_api.rest.view_access import ViewAccess
from logqueue_consumers.view.job import FROM_JOB_RECORD, RANKS, Identity, Job, JobKey, Outcome, State
from logqueue_consumers.view.reader import ViewReader
from logqueue_consumers.view.reports import Report
from logqueue_consumers.view.store import Batch, ViewStore

from tests.loops import in_loop

LONG_SECONDS = 60


def job(id_: str, state: State, *, replay: int = 0, shadow: str = "") -> Job:
    identity = Identity(FROM_JOB_RECORD, 1_000, "jobs.mail", 0, 7, "mail", "acme")
    outcome = Outcome(replay, 1, RANKS[state], 1, state, 9_000, shadow or "app")
    return Job(JobKey(id_, shadow), "mail.send", identity, outcome)


class Folded:
    """A view with its writer, and what the API sees of both."""

    def __init__(self, path: Path, limits: ApiLimits) -> None:
        self.store = ViewStore.open(path, cluster_id="c")
        self.access = ViewAccess(path, limits)
        self.report()

    def write(self, *jobs: Job) -> None:
        self.store.apply(Batch(pieces=jobs))

    def report(self, *jobs: Job, is_truncated: bool = False, has_new_definitions: bool = False) -> None:
        changes = [(job.key.shadow, int(job.outcome.state), [job.key.id]) for job in jobs]
        report = Report(self.store.generation, is_truncated=is_truncated, has_new_definitions=has_new_definitions)
        report.changes = list(changes)
        self.access.take_report(report)

    def tell(self, *jobs: Job) -> None:
        self.write(*jobs)
        self.report(*jobs)

    async def waiting(self, key: JobKey, *, timeout: float = LONG_SECONDS) -> asyncio.Task[Job | None]:
        task = asyncio.create_task(self.access.ended(key, timeout=timeout))
        await asyncio.sleep(0)
        return task


@pytest.fixture
def folded(tmp_path: Path) -> Iterator[Folded]:
    found = Folded(tmp_path / "view.sqlite", ApiLimits(max_waiting=3))
    yield found
    found.access.close()
    found.store.close()


@in_loop
async def test_a_job_that_has_ended_is_not_waited_for(folded: Folded) -> None:
    ended = job("a", State.DEAD)
    folded.tell(ended)
    assert await folded.access.ended(ended.key, timeout=LONG_SECONDS) == ended


@in_loop
async def test_all_who_wait_for_a_job_get_it_as_it_has_ended(folded: Folded) -> None:
    tasks = [await folded.waiting(JobKey("a")) for _ in range(2)]
    folded.tell(job("a", State.RUNNING), job("b", State.SUCCEEDED))
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    folded.tell(ended := job("a", State.SUCCEEDED))
    assert await asyncio.gather(*tasks) == [ended, ended]


@in_loop
async def test_runs_of_groups_are_waited_for_apart(folded: Folded) -> None:
    live, shadow = [await folded.waiting(key) for key in (JobKey("a"), JobKey("a", "replay-1"))]
    folded.tell(ended := job("a", State.SUCCEEDED, shadow="replay-1"))
    assert await shadow == ended
    assert not live.done()
    folded.tell(ended := job("a", State.DEAD))
    assert await live == ended


@in_loop
async def test_a_job_that_is_replayed_by_the_time_it_is_looked_up_is_waited_for_again(folded: Folded) -> None:
    task = await folded.waiting(JobKey("a"))
    folded.write(first := job("a", State.DEAD), job("a", State.RUNNING, replay=1))
    folded.report(first)
    await asyncio.sleep(0)
    assert not task.done()
    folded.tell(ended := job("a", State.SUCCEEDED, replay=1))
    assert await task == ended


@in_loop
async def test_the_job_as_it_is_answers_when_the_time_is_over(folded: Folded) -> None:
    folded.tell(running := job("a", State.RUNNING))
    assert await folded.access.ended(running.key, timeout=0) == running
    assert await folded.access.ended(JobKey("b"), timeout=0) is None


@in_loop
async def test_the_job_as_it_is_answers_when_the_process_is_to_end(folded: Folded) -> None:
    folded.tell(running := job("a", State.RUNNING))
    folded.access.expect("b")
    tasks = [await folded.waiting(key) for key in (running.key, JobKey("b"))]
    folded.access.stop_waiting()
    assert await asyncio.gather(*tasks) == [running, None]
    assert await folded.access.ended(JobKey("b"), timeout=LONG_SECONDS) is None
    assert await folded.access.ended(running.key, timeout=LONG_SECONDS) == running


@pytest.mark.parametrize("what", ["is_truncated", "has_new_definitions"])
@in_loop
async def test_an_end_that_no_report_names_is_found_where_reports_were_lost(folded: Folded, what: str) -> None:
    folded.access.expect("a")
    task = await folded.waiting(JobKey("a"))
    folded.write(ended := job("a", State.SUCCEEDED))
    await asyncio.sleep(0)
    assert not task.done()
    folded.report(**{what: True})
    assert await task == ended
    assert await folded.access.ended(ended.key, timeout=LONG_SECONDS) == ended


@in_loop
async def test_a_job_just_sent_is_looked_up_once_a_report_has_named_it(
    folded: Folded, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []
    look = ViewReader.job

    def noted(reader: ViewReader, id_: str, *, shadow: str = "") -> Job | None:
        looked_up.append(id_)
        return look(reader, id_, shadow=shadow)

    monkeypatch.setattr(ViewReader, "job", noted)
    folded.access.expect("a")
    task = await folded.waiting(JobKey("a"))
    folded.tell(job("a", State.QUEUED))
    folded.tell(ended := job("a", State.SUCCEEDED))
    assert await task == ended
    assert looked_up == []
    assert await folded.access.ended(ended.key, timeout=LONG_SECONDS) == ended
    assert looked_up == ["a"]


@in_loop
async def test_more_requests_than_may_wait_are_refused_and_those_that_have_gone_make_room(folded: Folded) -> None:
    tasks = [await folded.waiting(JobKey("a")) for _ in range(3)]
    with pytest.raises(Problem, match="wait for the view"):
        await folded.access.ended(JobKey("b"), timeout=LONG_SECONDS)
    tasks[0].cancel()
    await asyncio.wait({tasks[0]})
    tasks[0] = await folded.waiting(JobKey("b"))
    folded.tell(job("a", State.SUCCEEDED), job("b", State.SUCCEEDED))
    assert None not in await asyncio.gather(*tasks)
