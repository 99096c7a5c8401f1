"""A dead letter goes round once: closed ones are refused, several of one job count once, a conflict is its own job."""

from __future__ import annotations

import pytest
from logqueue_consumers.letters.dead_letters import DeadLetters, LetterFilter, LettersClosed

from logqueue import App
from logqueue.jobs.errors import Permanent
from tests.consumers.conftest import Log, until, working
from tests.loops import in_loop

DEAD = [
    ("ce_id", b"twin"),
    ("ce_type", b"mail.send"),
    ("job-error-type", b"Crash"),
    ("job-error-class", b"crash"),
]


def make_app(log: Log, broken: set[int], ran: list[tuple[str, int, int]]) -> App:
    app = App(log.name, settings=log.settings)
    app.queue("mail", partitions=1)

    @app.job("mail.send", queue="mail")
    async def send(ctx, *, n: int) -> int:  # type: ignore[no-untyped-def]
        ran.append((ctx.job_id, n, ctx.replay))
        if n in broken:
            raise Permanent(f"mailbox {n}")
        return n

    return app


def named(*ids: str) -> LetterFilter:
    return LetterFilter(ids=frozenset(ids))


async def succeeded(log: Log, count: int) -> None:
    await until(log.statuses, lambda found: sum(status.state == "succeeded" for status in found) == count)


@in_loop
async def test_a_letter_that_is_closed_is_refused_by_name_unless_it_is_wanted_again(log: Log) -> None:
    broken, ran = {1, 2}, []
    app = make_app(log, broken, ran)
    letters = DeadLetters(log.settings, queue="mail", group=app.group)
    async with working(app):
        job, other = [await app.jobs["mail.send"].send(n=n) for n in (1, 2)]
        await log.terminal(count=2)
        broken.clear()
        await letters.replay(named(job.id), by="ann")
        await succeeded(log, 1)
        with pytest.raises(LettersClosed, match=r"was replayed by ann at 20.*nothing was done"):
            await letters.replay(named(job.id, other.id), by="op")
        assert len(ran) == 3, "the open one that was named with it was not sent either"
        await letters.replay(named(job.id), by="op", again=True)
        await succeeded(log, 2)
        assert ran[-1] == (job.id, 1, 2), "under a number that no round of it had"
        await letters.discard(named(other.id), by="ann")
        for refused in (letters.replay(named(other.id), by="op"), letters.discard(named(other.id), by="op")):
            with pytest.raises(LettersClosed, match="was discarded by ann"):
                await refused


@in_loop
async def test_a_job_with_several_letters_goes_round_once_and_all_are_closed(log: Log) -> None:
    ran: list[tuple[str, int, int]] = []
    app = make_app(log, set(), ran)
    letters = DeadLetters(log.settings, queue="mail", group=app.group)
    async with working(app):
        for _ in range(2):  # its worker died between the letter and the commit
            await log.produce(letters.topic, b'{"n": 1}', key=b"acme", headers=DEAD, partition=0)
        assert (await letters.replay(named("twin"), by="op", dry_run=True)).matched == 1
        done = await letters.replay(named("twin", "0:0", "0:1"), by="op")
        assert (done.matched, done.replayed) == (1, 1)
        await app.jobs["mail.send"].send(tenant="acme", n=9)
        await succeeded(log, 2)
        assert sorted(ran, key=lambda run: run[1])[0] == ("twin", 1, 1) and len(ran) == 2
    assert [letter.status for letter in await letters.newest()] == ["replayed", "replayed"]


@in_loop
async def test_a_letter_whose_job_has_succeeded_since_is_refused_by_name_and_left_alone_by_filters(log: Log) -> None:
    ran: list[tuple[str, int, int]] = []
    app = make_app(log, set(), ran)
    letters = DeadLetters(log.settings, queue="mail", group=app.group)
    async with working(app):
        await log.produce(letters.topic, b'{"n": 1}', key=b"acme", headers=DEAD, partition=0)
        # The worker that wrote the letter died before its commit: the job runs once more, and this time it works.
        await log.produce(log.settings.topics.jobs("mail"), b'{"n": 1}', key=b"acme", headers=DEAD[:2])
        await succeeded(log, 1)
        with pytest.raises(LettersClosed, match="has succeeded since; nothing was done"):
            await letters.replay(named("twin"), by="op")
        for is_dry_run in (True, False):
            done = await letters.replay(LetterFilter(), by="op", dry_run=is_dry_run)
            assert (done.matched, done.replayed, done.ended) == (0, 0, 1), "filters leave it alone and count it"
        await letters.replay(LetterFilter(), by="op", again=True)
        await succeeded(log, 2)
    assert ran == [("twin", 1, 0), ("twin", 1, 1)]


@in_loop
async def test_a_job_that_died_again_goes_round_by_its_open_letter_alone(log: Log) -> None:
    broken, ran = {1}, []
    app = make_app(log, broken, ran)
    letters = DeadLetters(log.settings, queue="mail", group=app.group)
    async with working(app):
        job = await app.jobs["mail.send"].send(n=1)
        await log.terminal(count=1)
        await letters.replay(named(job.id), by="op")
        await until(letters.newest, lambda found: len(found) == 2)
        broken.clear()
        assert (await letters.replay(named(job.id), by="op")).replayed == 1
        await succeeded(log, 1)
    assert [replay for _, _, replay in ran] == [0, 1, 2]


@in_loop
async def test_a_conflict_runs_as_a_job_of_its_own_and_leaves_the_first_ones_result(log: Log) -> None:
    ran: list[tuple[str, int, int]] = []
    app = make_app(log, set(), ran)
    letters = DeadLetters(log.settings, queue="mail", group=app.group)
    async with working(app):
        first = await app.jobs["mail.send"].with_(idempotency_key="k").send(n=1)
        await log.terminal(count=1)
        second = await app.jobs["mail.send"].with_(idempotency_key="k").send(n=2)
        assert second.id == first.id
        (letter,) = await until(letters.newest, lambda found: len(found) == 1)
        assert (letter.id, letter.error_class, letter.is_open) == (first.id, "conflict", True)
        own = f"{letter.origin_topic}-{letter.origin_partition}-{letter.origin_offset}"
        assert (await letters.replay(LetterFilter(), by="op")).own == (own,)
        await succeeded(log, 2)
        assert ran == [(first.id, 1, 0), (own, 2, 1)]
        results = {status.id: status.result for status in await log.statuses() if status.state == "succeeded"}
        assert results == {first.id: b"1", own: b"2"}
        with pytest.raises(LettersClosed):
            await letters.replay(named(first.id), by="op")
        await letters.replay(named(first.id), by="op", again=True)
        await succeeded(log, 3)
        assert ran[-1] == (own, 2, 2)
