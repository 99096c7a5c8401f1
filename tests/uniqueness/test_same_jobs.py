"""Jobs that are the same run once: idempotency keys, unique jobs, records written twice. On every engine."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from logqueue_schemas.job_status import JobStatus, State

from logqueue import Retry
from logqueue.jobs.errors import InvalidArguments, InvalidDefinition
from logqueue.jobs.schedules import ENDED, ended_key
from logqueue.jobs.unique import KeyConflict, Unique, argument_digest, keyed_job_id
from tests.consumers.conftest import Log, neighbours, until, working


def letters_of(records: list[object]) -> list[dict[str, str]]:
    return [{name: value.decode() for name, value in record.headers} for record in records]  # type: ignore[attr-defined]


async def of_job(log: Log, job_id: str) -> list[JobStatus]:
    return [status for status in await log.statuses() if status.id == job_id]


def details(status: JobStatus) -> dict[str, object]:
    found: dict[str, object] = msgspec.json.decode(status.details or b"{}")
    return found


def test_the_same_key_and_arguments_run_once_and_every_sender_gets_the_result(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        runs: list[int] = []

        @app.job("charge")
        async def charge(*, amount: int) -> int:
            runs.append(amount)
            return amount * 2

        async with working(app) as worker:
            keyed = charge.with_(tenant="acme", idempotency_key="order-1")
            first, again = await keyed.send(amount=5), await keyed.send(amount=5)
            assert first.id == again.id == keyed_job_id(tenant="acme", queue="default", type_="charge", key="order-1")
            assert (await first.wait()).result == 10
            late = await keyed.send(amount=5)
            assert (await late.wait()).result == 10
            other = await charge.with_(tenant="globex", idempotency_key="order-1").send(amount=7)
            assert (await other.wait()).result == 14
            await until(lambda: log.done(app.group, "default"), lambda done: done == 4)
            await worker.stop()
        assert runs == [5, 7]
        assert len([status for status in await of_job(log, first.id) if status.is_terminal]) == 1

    asyncio.run(main())


def test_a_key_with_other_arguments_goes_to_the_dead_letters_and_leaves_the_first_job_alone(log: Log) -> None:
    async def main() -> None:
        app = log.app()

        @app.job("charge")
        async def charge(*, amount: int) -> int:
            return amount

        async with working(app) as worker:
            first = await charge.with_(idempotency_key="k").send(amount=1)
            assert (await first.wait()).result == 1
            before = await of_job(log, first.id)
            await charge.with_(idempotency_key="k").send(amount=2)
            await until(lambda: log.done(app.group, "default"), lambda done: done == 2)
            await worker.stop()
        assert await of_job(log, first.id) == before
        (letter,) = letters_of(await log.read(log.settings.topics.dlq("default", app.group)))
        assert letter["job-error-class"] == "conflict"
        assert letter["job-error-type"] == "KeyConflict"

    asyncio.run(main())


def test_whoever_waits_for_a_job_whose_key_came_with_other_arguments_is_told_of_the_conflict(log: Log) -> None:
    async def main() -> None:
        app = log.app()

        @app.job("charge")
        async def charge(*, amount: int) -> int:
            return amount

        async with working(app):
            keyed = charge.with_(idempotency_key="k")
            first, other, same = [await keyed.send(amount=amount) for amount in (1, 2, 1)]
            with pytest.raises(KeyConflict, match=f"key came before with other arguments, at .*@{first.offset} "):
                await other.wait()
            with pytest.raises(KeyConflict, match="is a dead letter of class `conflict`"):
                await other.status()
            assert (await first.wait()).result == (await same.wait()).result == 1
            waits = await charge.with_(idempotency_key="later", delay="1h").send(amount=1)
            await until(lambda: log.states(waits.id), lambda states: "scheduled" in states)
            rival = await charge.with_(idempotency_key="later").send(amount=2)
            with pytest.raises(KeyConflict, match="that job is scheduled"):
                await rival.wait()
            again = await charge.with_(id=first.id).send(amount=3)
            with pytest.raises(KeyConflict, match="its id came before"):
                await again.wait()

    asyncio.run(main())


def test_an_id_of_one_tenant_is_a_conflict_for_another_who_is_told_nothing_of_that_job(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        runs: list[int] = []

        @app.job("charge")
        async def charge(*, amount: int) -> int:
            runs.append(amount)
            return amount

        one, other = neighbours()
        async with working(app):
            first = await charge.with_(id="order-7").send(tenant=one, amount=1)
            assert (await first.wait()).result == 1
            for amount in (1, 2):
                second = await charge.with_(id="order-7").send(tenant=other, amount=amount)
                await until(lambda: log.done(app.group, "default"), lambda done, want=amount + 1: done >= want)
                with pytest.raises(KeyConflict, match=r"taken by another tenant's; this one, at .* is a dead letter"):
                    await second.wait()
            assert (await first.wait()).result == 1
        assert runs == [1]
        letters = letters_of(await log.read(log.settings.topics.dlq("default", app.group)))
        assert [letter["job-error-class"] for letter in letters] == ["conflict"] * 2

    asyncio.run(main())


def test_a_key_is_known_to_the_next_worker_while_its_job_waits_and_after_it_has_ended(log: Log) -> None:
    async def main() -> None:
        runs: list[str] = []

        def make() -> tuple[object, object]:
            app = log.app()

            @app.job("work", retry=Retry(attempts=2, first="3s", jitter=False))
            async def work(ctx, *, name: str, fails: bool) -> str:  # type: ignore[no-untyped-def]
                runs.append(name)
                if fails and ctx.attempt == 1:
                    raise ValueError("not now")
                return name

            return app, work

        app, work = make()
        async with working(app):  # type: ignore[arg-type]
            done = await work.with_(idempotency_key="done").send(name="done", fails=False)  # type: ignore[attr-defined]
            waits = await work.with_(idempotency_key="waits").send(name="waits", fails=True)  # type: ignore[attr-defined]
            assert (await done.wait()).result == "done"
            await until(lambda: log.states(waits.id), lambda states: "retrying" in states)
        app, work = make()
        async with working(app):  # type: ignore[arg-type]
            again = await work.with_(idempotency_key="done").send(name="done", fails=False)  # type: ignore[attr-defined]
            assert (await again.wait()).result == "done"
            rival = await work.with_(idempotency_key="waits").send(name="waits", fails=True)  # type: ignore[attr-defined]
            assert (await rival.wait()).result == "waits"
            await until(lambda: log.done(log.name, "default"), lambda count: count == 4)
        assert sorted(runs) == ["done", "waits", "waits"]

    asyncio.run(main())


def test_records_that_are_no_places_are_passed_over(log: Log) -> None:
    async def main() -> None:
        app = log.app()

        @app.job("work")
        async def work() -> int:
            return 1

        async with working(app):
            assert (await (await work.with_(idempotency_key="a").send()).wait()).result == 1
        topic = log.settings.topics.unique("default", app.group)
        for number in range(16):
            await log.produce(topic, b"junk", key=b"k/1", partition=number)
        async with working(app):
            assert (await (await work.with_(idempotency_key="a").send()).wait()).result == 1
            assert (await (await work.with_(idempotency_key="b").send()).wait()).result == 1

    asyncio.run(main())


def test_a_record_that_its_producer_wrote_twice_runs_once(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        runs: list[int] = []

        @app.job("count")
        async def count(*, n: int) -> None:
            runs.append(n)

        async with working(app) as worker:
            topic = log.settings.topics.jobs("default")
            headers = [("ce_type", b"count"), ("ce_id", b"twice")]
            await log.produce(topic, b'{"n":1}', key=b"acme", headers=headers)
            await log.produce(topic, b'{"n":1}', key=b"acme", headers=headers)
            await log.produce(topic, b'{"n":2}', key=b"acme", headers=headers)
            await log.produce(topic, b'{"n":3}', key=b"acme", headers=[("ce_type", b"count")])
            await log.produce(topic, b'{"n":3}', key=b"acme", headers=[("ce_type", b"count")])
            await until(lambda: log.done(app.group, "default"), lambda done: done == 5)
            await worker.stop()
        assert runs == [1, 3, 3]
        (letter,) = letters_of(await log.read(log.settings.topics.dlq("default", app.group)))
        assert letter["job-error-class"] == "conflict"
        assert [str(status.state) for status in await of_job(log, "twice") if status.is_terminal] == ["succeeded"]

    asyncio.run(main())


def test_a_second_record_of_a_schedules_run_does_not_free_the_schedule(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        began, may_end = asyncio.Event(), asyncio.Event()

        @app.job("slow")
        async def slow(*, is_first: bool) -> None:
            if is_first:
                began.set()
                await may_end.wait()

        async def told() -> list[bytes]:
            records = await log.read(log.settings.topics.schedules)
            # Without the tombstones: a keeper knows no such schedule.
            return [record.key for record in records if record.key.startswith(ENDED.encode()) and record.value]

        async with working(app):
            topic = log.settings.topics.jobs("default")
            headers = [("ce_type", b"slow"), ("ce_id", b"run"), ("job-holds", b"nightly")]
            await log.produce(topic, b'{"is_first":true}', key=b"acme", headers=headers, partition=0)
            await began.wait()
            await log.produce(topic, b'{"is_first":true}', key=b"acme", headers=headers, partition=0)
            # Later in the same partition: when it has ended, the record before has.
            await log.produce(topic, b'{"is_first":false}', key=b"b", headers=headers[:1], partition=0)
            await log.terminal(count=1)
            assert await told() == [], "the run goes on"
            may_end.set()
            await log.terminal(count=2)
            assert await told() == [ended_key("nightly", "run")]

    asyncio.run(main())


def test_of_equal_unique_jobs_one_is_kept_in_the_window_and_the_other_names_it(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        runs: list[tuple[str, int]] = []

        @app.job("sync", unique=Unique(fields=["customer"], window="10m"))
        async def sync(ctx, *, customer: str, n: int) -> int:  # type: ignore[no-untyped-def]
            runs.append((ctx.tenant, n))
            return n

        async with working(app):
            first = await sync.send(tenant="acme", customer="c1", n=1)
            second = await sync.send(tenant="acme", customer="c1", n=2)
            other = await sync.send(tenant="acme", customer="c2", n=3)
            elsewhere = await sync.send(tenant="globex", customer="c1", n=4)
            ends = {job.id: await job.wait() for job in (first, second, other, elsewhere)}
            assert [ends[job.id].state for job in (first, other, elsewhere)] == [State.SUCCEEDED] * 3
            assert ends[second.id].state is State.CANCELLED
            assert details(ends[second.id].status) == {"duplicate_of": first.id, "on_conflict": "skip"}
        assert sorted(runs) == [("acme", 1), ("acme", 3), ("globex", 4)]

    asyncio.run(main())


def test_who_waits_for_a_unique_job_gets_the_state_of_the_existing_one(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        runs: list[int] = []

        @app.job("report", unique=Unique(fields=[], window="10m", on_conflict="existing"))
        async def report(*, n: int) -> int:
            runs.append(n)
            return n

        async with working(app):
            first = await report.send(tenant="acme", n=1)
            assert (await first.wait()).result == 1
            second = await report.send(tenant="acme", n=2)
            state = await second.wait()
            assert (state.id, state.result) == (first.id, 1)
        assert runs == [1]

    asyncio.run(main())


def test_without_a_window_a_place_is_free_when_its_job_has_ended(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        runs: list[int] = []

        @app.job("rebuild", unique=Unique())
        async def rebuild(*, n: int = 0) -> None:
            runs.append(n)

        async with working(app):
            for _ in range(3):
                await (await rebuild.send(tenant="acme")).wait()
        assert runs == [0, 0, 0]
        assert await log.read(log.settings.topics.unique("default", app.group)) == []

    asyncio.run(main())


@pytest.mark.parametrize("waits", ["delayed", "behind another"])
def test_a_later_job_replaces_one_that_has_not_begun(log: Log, waits: str) -> None:
    async def main() -> None:
        app = log.app()
        runs: list[int] = []
        gate = asyncio.Event()

        @app.job("hold")
        async def hold() -> None:
            await gate.wait()

        @app.job("index", unique=Unique(fields=[], on_conflict="replace"))
        async def index(*, n: int) -> int:
            runs.append(n)
            return n

        async with working(app):
            blocker = await hold.send(tenant="acme")
            await until(lambda: log.states(blocker.id), lambda states: "running" in states)
            options = {"delay": "5s"} if waits == "delayed" else {}
            jobs = [await index.with_(tenant="acme", **options).send(n=n) for n in range(3)]
            assert (await jobs[0].wait()).state is State.CANCELLED
            assert (await jobs[1].wait()).state is State.CANCELLED
            gate.set()
            last = await jobs[2].wait()
            assert last.result == 2
            assert details((await jobs[1].wait()).status) == {"replaced_by": jobs[2].id}
        assert runs == [2]

    asyncio.run(main())


def test_delayed_jobs_hold_their_place_while_they_wait(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        runs: list[int] = []

        @app.job("mail", unique=Unique(fields=[]))
        async def mail(*, n: int) -> None:
            runs.append(n)

        async with working(app):
            first = await mail.with_(tenant="acme", delay="5s").send(n=1)
            second = await mail.with_(tenant="acme").send(n=2)
            assert (await second.wait()).state is State.CANCELLED
            assert (await first.wait()).state is State.SUCCEEDED
        assert runs == [1]

    asyncio.run(main())


def test_definitions_that_leave_a_gap_are_refused() -> None:
    with pytest.raises(InvalidDefinition, match="leave out retrying"):
        Unique(window="1m", states=["scheduled", "queued", "running"])
    with pytest.raises(InvalidDefinition, match="needs a window"):
        Unique(states=["scheduled", "queued", "running", "retrying", "succeeded"])
    with pytest.raises(InvalidDefinition, match="unknown state 'done'"):
        Unique(window="1m", states=["scheduled", "queued", "running", "retrying", "done"])
    with pytest.raises(InvalidDefinition, match="on_conflict"):
        Unique(on_conflict="explode")


def test_a_unique_field_that_is_no_argument_is_refused(log: Log) -> None:
    with pytest.raises(InvalidDefinition, match="'customer' is none of its arguments"):

        @log.app().job("sync", unique=Unique(fields=["customer"]))
        async def sync(*, client: str) -> None: ...


def test_a_key_that_is_no_text_is_refused_and_excludes_an_id(log: Log) -> None:
    app = log.app()

    @app.job("sync")
    async def sync() -> None: ...

    for key in ("", "x" * 256, "line\nbreak", "\ud800"):
        with pytest.raises(InvalidArguments):
            sync.with_(idempotency_key=key)
    with pytest.raises(InvalidArguments, match="id made from it"):
        sync.with_(idempotency_key="k", id="mine").prepare()


def test_arguments_are_compared_by_their_meaning() -> None:
    assert argument_digest(b'{"a":1,"b":[2]}') == argument_digest(b'{ "b": [2], "a": 1 }')
    assert argument_digest(b'{"a":1}') != argument_digest(b'{"a":2}')
    assert argument_digest(b"\x00\x01") != argument_digest(b"\x00\x02")
