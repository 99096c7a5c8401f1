"""Dead letters: listed with their reason, shown whole, sent round again to the group that failed and to no other."""

from __future__ import annotations

import asyncio
import json
import struct

import pytest
from logqueue_consumers.letters.dead_letters import DeadLetters, LetterFilter, Pace, read_position

from logqueue import App
from logqueue.jobs.errors import Permanent
from tests.consumers.conftest import Log, until, working
from tests.loops import in_loop


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
            assert (listed[0].error_type, listed[0].error_message) == ("Permanent", "mailbox 3")
            assert (listed[0].tenant, listed[0].type, listed[0].preview) == ("acme", "mail.send", '{"n":3}')
            assert (listed[0].origin_topic, listed[0].origin_offset) == (jobs[3].topic, jobs[3].offset)
            ((shown, value),) = await letters.show(jobs[1].id)
            assert (shown.id, value) == (jobs[1].id, b'{"n":1}')
            assert [found.id for found, _ in await letters.show(shown.position)] == [jobs[1].id]
            trial = await letters.replay(LetterFilter(), by="op", dry_run=True)
            assert (trial.matched, trial.replayed) == (2, 0)
            broken.clear()
            one = await letters.replay(LetterFilter(ids=frozenset({jobs[1].id})), by="op")
            assert (one.matched, one.replayed) == (1, 1)
            await until(log.statuses, lambda all_: sum(s.state == "succeeded" for s in all_) == 4)
            assert ran[-1] == (1, 1, 1), "attempt reset, replay counted"
            assert [letter.id for letter in await letters.newest(LetterFilter())] == [jobs[3].id]
            assert (await letters.replay(LetterFilter(), by="op")).replayed == 1
            assert (await letters.replay(LetterFilter(), by="op")).matched == 0, "a letter is not sent round twice"
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
                await DeadLetters(log.settings, queue="mail", group=first.group).replay(LetterFilter(), by="op")
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


@in_loop
async def test_discarded_letters_are_closed_and_who_did_it_is_kept(log: Log) -> None:
    app = make_app(log, {1, 2}, [])
    letters = DeadLetters(log.settings, queue="mail", group=app.group)
    async with working(app):
        first = await app.jobs["mail.send"].send(tenant="a", n=1)
        await app.jobs["mail.send"].send(tenant="b", n=2)
        await log.terminal(count=2)
    trial = await letters.discard(LetterFilter(tenant="a"), by="ann", dry_run=True)
    assert (trial.matched, trial.is_dry_run) == (1, True)
    assert (await letters.discard(LetterFilter(tenant="a"), by="ann")).matched == 1
    assert {letter.tenant: letter.status for letter in await letters.newest()} == {"a": "discarded", "b": "open"}
    assert (await letters.replay(LetterFilter(tenant="a"), by="ann")).matched == 0, "a closed letter is left alone"
    (entry,) = [json.loads(record.value) for record in await log.read(log.settings.topics.audit)]
    assert (entry["by"], entry["event"], entry["value"]["id"]) == ("ann", "dead-letter", first.id)


@in_loop
async def test_a_letter_may_be_edited_on_its_way(log: Log) -> None:
    broken, ran = {1}, []
    app = make_app(log, broken, ran)
    async with working(app):
        await app.jobs["mail.send"].send(n=1)
        await log.terminal(count=1)
        letters = DeadLetters(log.settings, queue="mail", group=app.group)
        await letters.replay(LetterFilter(), by="op", edit=lambda job: job.with_arguments(b'{"n": 7}'))
        await until(log.statuses, lambda all_: any(s.state == "succeeded" and s.result == b"7" for s in all_))
        assert ran[-1] == (7, 1, 1)


@in_loop
async def test_a_replay_stops_when_too_many_fail_again(log: Log) -> None:
    app = make_app(log, set(range(100)), [])
    async with working(app):
        await app.send_many(app.jobs["mail.send"].prepare(tenant=f"t{n}", n=n) for n in range(100))
        await log.terminal(count=100)
        letters = DeadLetters(log.settings, queue="mail", group=app.group)
        told = []
        done = await letters.replay(
            LetterFilter(), by="op", pace=Pace(rate=100, max_failed_share=0.2, min_sample=5), on_progress=told.append
        )
        assert done.stopped is not None and done.matched == 100
        assert 5 <= done.failed <= done.replayed < 100
        assert told[-1] == done
        assert len(await letters.newest(LetterFilter(), limit=200)) >= 100 - done.replayed


@in_loop
async def test_a_failed_write_of_the_round_leaves_the_letter_open(log: Log) -> None:
    app = make_app(log, {1}, [])
    async with working(app):
        await app.jobs["mail.send"].send(n=1)
        await log.terminal(count=1)
        letters = DeadLetters(log.settings, queue="mail", group=app.group)

        def refuse(job: object) -> object:
            raise ValueError("no")

        try:
            await letters.replay(LetterFilter(), by="op", edit=refuse)  # type: ignore[arg-type]
        except ValueError:
            pass
        assert len(await letters.newest(LetterFilter())) == 1


SPRING = [
    ("kafka_dlt-original-topic", b"orders"),
    ("kafka_dlt-original-partition", struct.pack(">i", 3)),
    ("kafka_dlt-original-offset", struct.pack(">q", 77)),
    ("kafka_dlt-original-consumer-group", b"billing"),
    ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
    ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
    ("kafka_dlt-exception-message", b"no stock"),
    ("retry_topic-attempts", struct.pack(">i", 4)),
]


@in_loop
async def test_letters_that_another_system_left_are_read_and_run_here(log: Log) -> None:
    ran: list[tuple[int, int, int]] = []
    app = make_app(log, set(), ran)
    topic = f"{log.settings.topic_prefix}orders-dlt"
    async with working(app):
        await log.produce(topic, b'{"n": 5}', key=b"acme", headers=SPRING)
        letters = DeadLetters(log.settings, queue="mail", group=app.group, topic=topic)
        (letter,) = await letters.newest()
        assert (letter.system, letter.error_type, letter.error_message) == (
            "spring",
            "IllegalStateException",
            "no stock",
        )
        assert (letter.origin_topic, letter.origin_partition, letter.origin_offset) == ("orders", 3, 77)
        assert (letter.id, letter.attempt, letter.is_open) == ("orders-3-77", 4, True)
        await letters.replay(LetterFilter(), by="op", edit=lambda job: job.with_type("mail.send"))
        (ended,) = await log.terminal(count=1)
        assert (ended.id, ended.state, ended.result) == ("orders-3-77", "succeeded", b"5")
        assert ran == [(5, 1, 1)]
        assert [found.status for found in await letters.newest()] == ["replayed"]


@pytest.mark.parametrize(
    "text", ["\u00b2:1", "1:\u00b2", "\u0663:1", "9" * 5_000 + ":1", "1:" + "9" * 5_000, "1", ":1", "-1:2", ""]
)
def test_what_is_no_partition_and_offset_is_an_id(text: str) -> None:
    assert read_position(text) is None
    assert read_position("3:120") == (3, 120)
