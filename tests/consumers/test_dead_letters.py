"""Dead letters: listed with their reason, shown whole, sent round again to the group that failed and to no other."""

from __future__ import annotations

import asyncio

from logqueue_consumers.dead_letters import DeadLetters, LetterFilter

from logqueue import App
from logqueue.jobs.errors import Permanent
from tests.consumers.conftest import Log, until, working


def make_app(log: Log, broken: set[int], ran: list[tuple[int, int, int]], *, group: str | None = None) -> App:
    app = App(log.name, group=group, settings=log.settings)
    app.queue("mail", partitions=2)

    @app.job("mail.send", queue="mail")
    async def send(ctx, *, n: int) -> int:  # type: ignore[no-untyped-def]
        ran.append((n, ctx.attempt, ctx.replay))
        if n in broken:
            raise Permanent(f"mailbox {n}")
        return n

    return app


def test_dead_letters_are_listed_shown_and_replayed(log: Log) -> None:
    async def main() -> None:
        broken, ran = {1, 3}, []
        app = make_app(log, broken, ran)
        letters = DeadLetters(log.settings, queue="mail", group=app.group)
        assert await letters.newest() == []
        async with working(app):
            jobs = await app.send_many(app.jobs["mail.send"].prepare(tenant="acme", n=n) for n in range(5))
            await log.terminal(count=5)
            listed = await letters.newest()
            assert [letter.id for letter in listed] == [jobs[3].id, jobs[1].id]
            assert (listed[0].error_type, listed[0].error_message) == ("PermanentError", "mailbox 3")
            assert (listed[0].tenant, listed[0].type, listed[0].preview) == ("acme", "mail.send", '{"n":3}')
            assert (listed[0].origin_topic, listed[0].origin_offset) == (jobs[3].topic, jobs[3].offset)
            ((shown, value),) = await letters.show(jobs[1].id)
            assert (shown.id, value) == (jobs[1].id, b'{"n":1}')
            assert [found.id for found, _ in await letters.show(shown.position)] == [jobs[1].id]
            trial = await letters.replay(LetterFilter(), dry_run=True)
            assert (trial.matched, trial.replayed) == (2, 0)
            broken.clear()
            one = await letters.replay(LetterFilter(ids=frozenset({jobs[1].id})))
            assert (one.matched, one.replayed) == (1, 1)
            await until(log.statuses, lambda all_: sum(s.state == "succeeded" for s in all_) == 4)
            assert ran[-1] == (1, 1, 1), "attempt reset, replay counted"
            assert [letter.id for letter in await letters.newest(LetterFilter())] == [jobs[3].id]
            assert (await letters.replay(LetterFilter())).replayed == 1
            assert (await letters.replay(LetterFilter())).matched == 0, "a letter is not sent round twice"
            statuses = await until(log.statuses, lambda all_: sum(s.state == "succeeded" for s in all_) == 5)
        last = [status for status in statuses if status.id == jobs[3].id and status.state == "succeeded"]
        assert [(status.replay, status.attempt) for status in last] == [(1, 1)]
        assert ("queued", 1) in {(str(status.state), status.replay) for status in statuses if status.id == jobs[3].id}

    asyncio.run(main())


def test_a_replayed_letter_runs_in_the_failing_group_only(log: Log) -> None:
    async def main() -> None:
        broken, failing, other = {1}, [], []
        first = make_app(log, broken, failing)
        second = make_app(log, set(), other, group=f"{log.name}-other")
        async with working(first), working(second):
            await first.jobs["mail.send"].send(n=1)
            await until(log.statuses, lambda all_: len([s for s in all_ if s.state in ("dead", "succeeded")]) == 2)
            broken.clear()
            assert (
                await DeadLetters(log.settings, queue="mail", group=first.group).replay(LetterFilter())
            ).replayed == 1
            await until(log.statuses, lambda all_: len([s for s in all_ if s.state == "succeeded"]) == 2)
        assert [run[0] for run in failing] == [1, 1]
        assert [run[0] for run in other] == [1]

    asyncio.run(main())


def test_a_letter_without_an_id_keeps_the_one_of_its_first_record(log: Log) -> None:
    async def main() -> None:
        app = make_app(log, set(), [])
        async with working(app):
            sent = await log.produce(
                log.settings.topics.jobs("mail"), b"\xff", headers=[("ce_type", b"mail.send")], partition=1
            )
            await log.terminal(count=1)
        (letter,) = await DeadLetters(log.settings, queue="mail", group=app.group).newest()
        assert letter.id == f"{sent.topic}-1-{sent.offset}"
        assert letter.preview == "\\xff"
        assert letter.error_class == "undecodable"

    asyncio.run(main())
