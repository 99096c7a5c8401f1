"""A job goes all the way, on every engine: run, retried, dead-lettered, parked, delayed, committed."""

from __future__ import annotations

import asyncio
import time
from io import BytesIO
from itertools import pairwise

import fastavro
import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from logqueue_consumers.commits.notes import read_notes
from logqueue_consumers.commits.offset_map import decode
from logqueue_consumers.limits import WorkerLimits

from logqueue import Retry
from logqueue.jobs.errors import Permanent
from logqueue.jobs.registry import SchemaRegistry
from logqueue.jobs.times import format_time
from tests.consumers.conftest import Log, until, working


def headers_of(record: object) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers}  # type: ignore[attr-defined]


def test_async_and_plain_handlers_run_and_their_results_are_stored(log: Log) -> None:
    async def main() -> None:
        app = log.app()

        @app.job("async.add")
        async def add(ctx, *, a: int, b: int) -> dict:  # type: ignore[no-untyped-def,type-arg]
            return {"sum": a + b, "tenant": ctx.tenant, "attempt": ctx.attempt}

        @app.job("plain.upper")
        def upper(*, text: str) -> str:
            return text.upper()

        async with working(app) as worker:
            first = await add.send(tenant="acme", a=1, b=2)
            second = await upper.send(tenant="acme", text="abc")
            done = {status.id: status for status in await log.terminal(count=2)}
            assert msgspec.json.decode(done[first.id].result or b"") == {"sum": 3, "tenant": "acme", "attempt": 1}
            assert msgspec.json.decode(done[second.id].result or b"") == "ABC"
            assert done[first.id].topic == first.topic
            assert done[first.id].offset == first.offset
            assert (await worker.stop()).succeeded == 2
        assert await log.done(app.group, "default") == 2

    asyncio.run(main())


def test_more_jobs_run_at_once_than_there_are_partitions(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        app.queue("wide", order="none", partitions=1)
        together, running = asyncio.Event(), 0

        @app.job("wait", queue="wide")
        async def wait() -> None:
            nonlocal running
            running += 1
            if running == 20:
                together.set()
            await together.wait()

        async with working(app, concurrency=20):
            await app.send_many(wait.prepare(tenant="one") for _ in range(20))
            await log.terminal(count=20)

    asyncio.run(main())


def test_a_tenants_jobs_run_one_at_a_time_in_order_while_tenants_overlap(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        app.queue("ordered", partitions=2)
        started: dict[str, list[int]] = {}
        running: set[str] = set()
        overlaps = 0

        @app.job("step", queue="ordered")
        async def step(ctx, *, n: int) -> None:  # type: ignore[no-untyped-def]
            nonlocal overlaps
            assert ctx.tenant not in running
            overlaps += bool(running)
            running.add(ctx.tenant)
            started.setdefault(ctx.tenant, []).append(n)
            await asyncio.sleep(0.001)
            running.discard(ctx.tenant)

        async with working(app):
            await app.send_many(step.prepare(tenant=f"t{n % 5}", n=n) for n in range(100))
            statuses = await log.terminal(count=100)
        assert {status.state for status in statuses} == {"succeeded"}
        assert all(numbers == sorted(numbers) for numbers in started.values())
        assert overlaps > 0

    asyncio.run(main())


def test_a_failing_job_is_tried_again_in_memory_and_then_dead_lettered_with_its_bytes(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        attempts: list[int] = []

        @app.job("fail", retry=Retry(attempts=3, first="20ms", cap="50ms"))
        async def fail(ctx, *, n: int) -> None:  # type: ignore[no-untyped-def]
            attempts.append(ctx.attempt)
            raise ValueError(f"no {n}")

        async with working(app):
            value = b'{ "n" : 7 }'
            sent = await log.produce(
                log.settings.topics.jobs("default"),
                value,
                key=b"acme",
                headers=[("ce_type", b"fail"), ("ce_id", b"job-1"), ("mine", b"\x00\xff")],
            )
            (status,) = await log.terminal(count=1)
        assert attempts == [1, 2, 3]
        assert (status.state, status.attempt) == ("dead", 3)
        assert status.error is not None
        assert (status.error.type, status.error.message, status.error.error_class) == (
            "ValueError",
            "no 7",
            "transient",
        )
        assert (await log.states("job-1")).count("dead") == 1
        (letter,) = await log.read(log.settings.topics.dlq("default", app.group))
        assert (letter.value, letter.key) == (value, b"acme")
        assert ("mine", b"\x00\xff") in letter.headers
        found = {name: value for name, value in letter.headers if name != "mine"}
        assert found["job-attempt"] == b"3"
        assert found["job-origin-topic"].decode() == sent.topic
        assert int(found["job-origin-offset"]) == sent.offset
        assert await log.read(log.settings.topics.retry("default", app.group)) == []

    asyncio.run(main())


def test_a_late_retry_goes_through_the_retry_topic_and_is_never_early(log: Log) -> None:
    limits = WorkerLimits(memory_retry_delay_s=0.1, commit_interval_s=0.05)

    async def main() -> None:
        app = log.app()
        starts: list[float] = []

        @app.job("once", retry=Retry(attempts=3, first="400ms", factor=1.0, jitter=0.0))
        async def once(ctx, *, n: int) -> int:  # type: ignore[no-untyped-def]
            starts.append(time.time())
            if ctx.attempt < 3:
                raise RuntimeError("not yet")
            return int(ctx.attempt)

        async with working(app, limits=limits):
            job = await once.send(tenant="acme", n=1)
            (status,) = await log.terminal(count=1)
        assert (status.state, status.attempt, status.result) == ("succeeded", 3, b"3")
        assert (status.topic, status.offset) == (job.topic, job.offset), "the origin stays the first record"
        assert [later - earlier >= 0.4 for earlier, later in pairwise(starts)] == [True, True]
        records = await log.read(log.settings.topics.retry("default", app.group))
        assert [headers_of(record)["job-attempt"] for record in records] == ["2", "3"]
        assert {headers_of(record)["job-origin-topic"] for record in records} == {job.topic}
        assert len({headers_of(record)["job-first-failed-at"] for record in records}) == 1
        assert "retrying" in await log.states(job.id)

    asyncio.run(main())


def test_permanent_errors_are_not_tried_again(log: Log) -> None:
    async def main() -> None:
        app = log.app()

        class NoSuchFlight(Permanent):
            pass

        @app.job("look")
        async def look(*, n: int) -> None:
            raise NoSuchFlight(f"flight {n}")

        async with working(app):
            await look.send(n=1)
            (status,) = await log.terminal(count=1)
        assert status.error is not None
        assert (status.state, status.attempt, status.error.type) == ("dead", 1, "NoSuchFlight")
        assert status.error.error_class == "permanent"

    asyncio.run(main())


def test_what_is_no_exception_of_a_handler_ends_its_attempt_and_not_the_worker(log: Log) -> None:
    class Halt(BaseException):
        """As pytest's outcomes and those of some libraries are."""

    async def main() -> None:
        app = log.app()

        @app.job("halt", retry=Retry(attempts=2, first="1ms"))
        async def halt() -> None:
            raise Halt("now")

        @app.job("leave", retry=Retry(attempts=1))
        async def leave() -> None:
            raise SystemExit(3)

        async with working(app) as worker:
            await halt.send(tenant="a")
            await leave.send(tenant="b")
            ended = {status.type: status for status in await log.terminal(count=2)}
            errors = {type_: status.error.type for type_, status in ended.items() if status.error is not None}
            assert errors == {"halt": "Halt", "leave": "SystemExit"}
            assert ended["halt"].attempt == 2
            assert (await worker.stop()).dead == 2

    asyncio.run(main())


def test_undecodable_records_go_to_the_dead_letters_untouched_and_block_nothing(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        app.queue("inbox", default_type="take", partitions=1)

        @app.job("take", queue="inbox")
        async def take(*, n: int) -> int:
            return n

        bad: list[tuple[bytes | None, list[tuple[str, bytes]]]] = [
            (b"{", []),
            (b"\xff\xfe", []),
            (None, []),
            (b"\x00\x00\x00\x01\x00rest", []),
            (b'{"n": "seven"}', []),
            (b'{"n": 1, "more": 2}', []),
            (b'{"n": 1}', [("job-attempt", b"many")]),
            (b'{"n": 1}', [("content-type", b"text/xml")]),
        ]
        topic = log.settings.topics.jobs("inbox")
        async with working(app):
            for value, headers in bad:
                await log.produce(topic, value, key=b"k", headers=headers)
            good = await log.produce(topic, b'{"n": 5}', key=b"k")
            statuses = await log.terminal(count=len(bad) + 1)
        assert [s.id for s in statuses if s.state == "succeeded"] == [f"{topic}-0-{good.offset}"]
        dead = [s for s in statuses if s.state == "dead"]
        assert len(dead) == len(bad)
        assert {s.error.error_class for s in dead if s.error} <= {"undecodable", "permanent"}
        letters = await log.read(log.settings.topics.dlq("inbox", app.group))
        assert sorted(repr(letter.value) for letter in letters) == sorted(repr(value) for value, _ in bad)
        assert await log.done(app.group, "inbox") == len(bad) + 1

    asyncio.run(main())


def test_avro_jobs_run_though_their_schema_is_registered_after_the_worker_began(log: Log) -> None:
    schema = {"type": "record", "name": "Take", "fields": [{"name": "n", "type": "long"}]}

    async def main() -> None:
        app = log.app()

        @app.job("take")
        async def take(*, n: int) -> int:
            return n

        async with working(app):
            registration = await SchemaRegistry(log.settings).register("take-value", schema)
            body = BytesIO()
            fastavro.schemaless_writer(body, fastavro.parse_schema(schema), {"n": 41})
            value = b"\x00" + registration.id.to_bytes(4, "big") + body.getvalue()
            await log.produce(log.settings.topics.jobs("default"), value, key=b"k", headers=[("ce_type", b"take")])
            (status,) = await log.terminal(count=1)
        assert (status.state, status.result) == ("succeeded", b"41")

    asyncio.run(main())


def test_a_job_of_an_unknown_type_is_parked_and_runs_once_a_worker_knows_it(log: Log) -> None:
    async def main() -> None:
        old = log.app()

        @old.job("known")
        async def known() -> None:
            return None

        topic = log.settings.topics.jobs("default")
        async with working(old):
            for number in range(3):
                await log.produce(
                    topic,
                    b'{"n": %d}' % number,
                    key=b"acme",
                    headers=[("ce_type", b"novel"), ("ce_id", b"novel-%d" % number)],
                )
            await until(log.statuses, lambda found: sum(s.state == "parked" for s in found) == 3)
            await known.send(tenant="acme")
            await log.terminal(count=1)
            assert len(await log.read(log.settings.topics.parked("default", old.group))) == 3

        new = log.app()

        @new.job("known")
        async def known_still() -> None:
            return None

        @new.job("novel")
        async def novel(*, n: int) -> int:
            return n

        async with working(new):
            statuses = await log.terminal(count=4)
        assert {s.id: s.result for s in statuses if s.type == "novel"} == {f"novel-{n}": b"%d" % n for n in range(3)}
        assert {(s.topic) for s in statuses if s.type == "novel"} == {topic}, "their origin is the job topic"

    asyncio.run(main())


def test_a_job_is_not_run_before_its_time(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        ran: list[float] = []

        @app.job("later")
        async def later() -> None:
            ran.append(time.time())

        async with working(app):
            due = time.time() + 5.0
            job = await later.with_(tenant="acme", delay="5s").send()
            (status,) = await log.terminal(count=1)
        assert status.state == "succeeded"
        assert len(ran) == 1
        assert ran[0] >= due - 0.001
        assert (await log.states(job.id))[0] == "scheduled"
        (record,) = await log.read(log.settings.topics.retry("default", app.group))
        assert headers_of(record).get("job-attempt", "1") == "1"

    asyncio.run(main())


def test_an_expired_job_is_not_begun(log: Log) -> None:
    async def main() -> None:
        app = log.app()

        @app.job("stale")
        async def stale() -> None:
            raise AssertionError("must not run")

        past = format_time(int(time.time() * 1000) - 1000).encode()
        async with working(app):
            await log.produce(
                log.settings.topics.jobs("default"), b"{}", headers=[("ce_type", b"stale"), ("job-expires", past)]
            )
            (status,) = await log.terminal(count=1)
        assert status.state == "expired"
        assert status.tenant == "default"

    asyncio.run(main())


def test_a_result_without_a_json_form_or_beyond_the_bound_is_a_clear_permanent_error(log: Log) -> None:
    async def main() -> None:
        app = log.app()

        @app.job("odd")
        async def odd(*, big: bool) -> object:
            return "x" * 300_000 if big else object()

        async with working(app):
            await odd.send(big=False)
            await odd.send(big=True)
            statuses = await log.terminal(count=2)
        texts = [status.error.message for status in statuses if status.error]
        assert {status.state for status in statuses} == {"dead"}
        assert any("no JSON value" in text for text in texts)
        assert any("bytes of JSON" in text for text in texts)

    asyncio.run(main())


def test_a_job_beyond_its_time_limit_is_cancelled_and_its_runner_goes_on(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        release = __import__("threading").Event()

        @app.job("slow", timeout="100ms", retry=Retry(attempts=1))
        async def slow() -> None:
            await asyncio.sleep(60)

        @app.job("slow.plain", timeout="100ms", retry=Retry(attempts=1))
        def slow_plain() -> None:
            release.wait(30)

        @app.job("quick")
        async def quick() -> None:
            return None

        async with working(app, concurrency=1):
            await slow.send(tenant="a")
            await slow_plain.send(tenant="a")
            await quick.send(tenant="a")
            statuses = {status.type: status for status in await log.terminal(count=3)}
            release.set()
        assert statuses["quick"].state == "succeeded"
        for type_ in ("slow", "slow.plain"):
            error = statuses[type_].error
            assert error is not None
            assert (error.type, error.error_class) == ("JobTimeout", "timeout")

    asyncio.run(main())


def test_finished_jobs_above_a_stuck_one_do_not_run_again_after_a_hard_stop(log: Log) -> None:
    async def main() -> None:
        runs: dict[int, int] = {}
        stuck = True

        def make() -> tuple[object, object]:
            app = log.app()
            app.queue("q", order="none", partitions=1)

            @app.job("work", queue="q")
            async def work(*, n: int) -> None:
                runs[n] = runs.get(n, 0) + 1
                if n == 0 and stuck:
                    await asyncio.sleep(600)

            return app, work

        app, work = make()
        async with working(app, concurrency=10) as worker:  # type: ignore[arg-type]
            await app.send_many(work.prepare(n=n) for n in range(200))  # type: ignore[attr-defined]
            await log.terminal(count=199)
            tp = TopicPartition(log.settings.topics.jobs("q"), 0)

            async def committed() -> tuple[int, str]:
                offset, metadata = (await log.committed(log.name)).get(tp, (-1, ""))
                return offset, read_notes(metadata, base=offset).map_text

            await until(committed, lambda at: sum(r.end - r.start for r in decode(at[1], base=0)) == 199)
            result = await worker.stop(hurry=True)
            assert result.interrupted == 1
        stuck = False
        again, _ = make()
        async with working(again):  # type: ignore[arg-type]
            statuses = await log.terminal(count=200)
            await until(lambda: log.done(log.name, "q"), lambda done: done == 200)
        assert runs == {0: 2} | dict.fromkeys(range(1, 200), 1)
        assert {status.attempt for status in statuses} == {1}, "an interrupted attempt does not count"

    asyncio.run(main())


def test_a_stopping_worker_lets_running_jobs_end_and_hands_back_the_rest(log: Log) -> None:
    async def main() -> None:
        runs: dict[int, int] = {}
        app = log.app()
        app.queue("q", order="none", partitions=2)

        @app.job("work", queue="q")
        async def work(*, n: int) -> None:
            runs[n] = runs.get(n, 0) + 1
            await asyncio.sleep(0.02)

        async with working(app, concurrency=5) as worker:
            await app.send_many(work.prepare(tenant=f"t{n}", n=n) for n in range(100))
            while len(runs) < 20:
                await asyncio.sleep(0.005)
            first = await worker.stop()
        assert first.interrupted == 0
        assert 20 <= first.succeeded < 100
        assert await log.done(app.group, "q") <= first.succeeded
        async with working(app) as worker:
            await log.terminal(count=100)
            second = await worker.stop()
        assert runs == dict.fromkeys(range(100), 1), "a graceful stop repeats nothing"
        assert first.succeeded + second.succeeded == 100
        assert await log.done(app.group, "q") == 100

    asyncio.run(main())


def test_a_retry_waiting_in_memory_survives_a_stop_with_its_attempt(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        attempts: list[int] = []

        @app.job("shaky", retry=Retry(attempts=2, first="2s", jitter=0.0))
        async def shaky(ctx) -> None:  # type: ignore[no-untyped-def]
            attempts.append(ctx.attempt)
            if ctx.attempt == 1:
                raise RuntimeError("first")

        async with working(app) as worker:
            await shaky.send(tenant="acme")

            async def delayed() -> int:
                return worker.metrics().delayed

            await until(delayed, lambda count: count == 1)
        async with working(app):
            (status,) = await log.terminal(count=1)
        assert (attempts, status.state, status.attempt) == ([1, 2], "succeeded", 2)

    asyncio.run(main())


def test_failing_jobs_beyond_the_memory_bound_do_not_fill_the_window(log: Log) -> None:
    limits = WorkerLimits(max_memory_retries=5, max_unfinished=50, commit_interval_s=0.05)

    async def main() -> None:
        app = log.app()
        app.queue("mixed", order="none", partitions=1)

        @app.job("bad", queue="mixed", retry=Retry(attempts=2, first="20s", cap="20s"))
        async def bad() -> None:
            raise RuntimeError("always")

        @app.job("good", queue="mixed")
        async def good() -> None:
            return None

        async with working(app, limits=limits):
            await app.send_many((bad if n % 2 else good).prepare() for n in range(400))
            statuses = await log.terminal(count=200)
        assert {status.type for status in statuses} == {"good"}

    asyncio.run(main())


def test_a_record_without_headers_is_a_job_of_the_default_type_under_its_position(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        app.queue("plain", default_type="greet", partitions=1)

        @app.job("greet", queue="plain")
        async def greet(*, name: str) -> str:
            return f"hello {name}"

        topic = log.settings.topics.jobs("plain")
        async with working(app):
            await log.produce(topic, b'{"name": "Ada"}')
            (status,) = await log.terminal(count=1)
        assert (status.id, status.type, status.tenant) == (f"{topic}-0-0", "greet", "default")
        assert status.result == b'"hello Ada"'

    asyncio.run(main())


def test_a_worker_publishes_the_definitions_of_its_jobs(log: Log) -> None:
    async def main() -> None:
        app = log.app()

        @app.job("one")
        async def one(*, n: int) -> None:
            return None

        async with working(app):
            (record,) = await log.read(log.settings.topics.control)
        assert record.key.decode() == f"definition/{app.name}/one"
        described = msgspec.json.decode(record.value)
        assert (described["type"], described["queue"], described["group"]) == ("one", "default", app.group)

    asyncio.run(main())


def test_room_that_comes_free_serves_every_partition(log: Log) -> None:
    limits = WorkerLimits(max_unfinished=40, max_fetched=4_000, commit_interval_s=0.05)

    async def main() -> None:
        app = log.app()
        app.queue("many", partitions=8)

        @app.job("noop", queue="many")
        async def noop(*, n: int) -> None:
            return None

        await app.send_many(noop.prepare(tenant=f"t{n % 50}", n=n) for n in range(4_000))
        async with working(app, limits=limits):
            await until(lambda: log.done(app.group, "many"), lambda done: done == 4_000)

    asyncio.run(main())


def test_jobs_see_context_variables_of_their_own(log: Log) -> None:
    from contextvars import ContextVar

    seen: ContextVar[int] = ContextVar("seen", default=0)

    async def main() -> None:
        app = log.app()

        @app.job("mark")
        async def mark(*, n: int) -> int:
            before = seen.get()
            seen.set(n)
            await asyncio.sleep(0)
            assert seen.get() == n
            return before

        async with working(app, concurrency=1):
            for n in (1, 2, 3):
                await mark.send(tenant="a", n=n)
            statuses = await log.terminal(count=3)
        assert {status.result for status in statuses} == {b"0"}

    asyncio.run(main())


def test_the_largest_record_that_the_job_topic_takes_still_fits_into_the_dead_letters(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        app.queue("big", default_type="take", partitions=1)

        @app.job("take", queue="big")
        async def take(*, n: int) -> int:
            return n

        async with working(app):
            async with AIOKafkaProducer(
                bootstrap_servers=log.settings.bootstrap, acks="all", max_request_size=2_000_000
            ) as producer:
                value = b"[" + b"x" * 1_048_400
                await producer.send_and_wait(log.settings.topics.jobs("big"), value)
            (status,) = await log.terminal(count=1)
        assert status.state == "dead"
        (letter,) = await log.read(log.settings.topics.dlq("big", app.group))
        assert letter.value == value

    asyncio.run(main())
