"""The outbox relay: one record a row, whatever dies, from PostgreSQL and SQLite."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import asyncpg
import pytest
from logqueue_api.cli.main import main
from logqueue_consumers.bridges import outbox_postgres, outbox_relay, outbox_sqlite, outbox_table
from logqueue_consumers.bridges.outbox_table import TableMissing

from logqueue import App, JobContext, outbox
from logqueue.jobs.definition import JobDefinition
from logqueue.jobs.errors import InvalidArguments
from tests.bridges.outbox_world import Cut, CutTable, OutboxWorld, UnlockedTable
from tests.bridges.running import running
from tests.consumers.conftest import Log, until, working
from tests.loops import in_loop

KILLS = 2
ROWS_PER_KILL = 400


def invoices(log: Log) -> tuple[App, JobDefinition[..., None]]:
    app = log.app()
    app.queue("billing", partitions=2)

    @app.job("invoice.send", queue="billing")
    async def send_invoice(*, order: int) -> None: ...

    return app, send_invoice


async def ids(log: Log) -> Counter[str]:
    records = await log.read(log.settings.topics.jobs("billing"))
    return Counter(dict(record.headers)["ce_id"].decode() for record in records)


@in_loop
async def test_a_row_of_a_committed_transaction_becomes_one_job_with_its_id(
    log: Log, outbox_world: OutboxWorld
) -> None:
    _, job = invoices(log)
    kept, lost = job.prepare(tenant="acme", order=1), job.prepare(tenant="acme", order=2)
    await outbox_world.add([kept])
    await outbox_world.add([lost], then_roll_back=True)
    counts = await outbox_world.drain(log)
    assert (counts.moved, counts.refused, await outbox_world.count()) == (1, 0, 0)
    (record,) = await log.read(log.settings.topics.jobs("billing"))
    headers = dict(record.headers)
    assert (record.key, record.value) == (b"acme", b'{"order":1}')
    assert (headers["ce_id"].decode(), headers["ce_type"], headers["ce_source"]) == (
        kept.id,
        b"invoice.send",
        log.name.encode(),
    )


@in_loop
async def test_a_row_of_plain_sql_is_run_by_a_worker(log: Log, outbox_world: OutboxWorld) -> None:
    app, _ = invoices(log)
    seen: list[tuple[str, str, str]] = []

    @app.job("invoice.pay", queue="billing")
    async def pay(ctx: JobContext, *, note: str) -> None:
        seen.append((ctx.job_id, ctx.tenant, note))

    await outbox_world.execute(
        "INSERT INTO {table} (id, type, queue, args, headers) VALUES"
        """ ('order-7', 'invoice.pay', 'billing', '{{"note": "grüße"}}', '{{"x-shop": "7"}}')"""
    )
    async with working(app):
        await outbox_world.drain(log)
        await log.terminal(count=1)
    assert seen == [("order-7", "default", "grüße")]


@in_loop
async def test_a_row_of_plain_sql_names_any_class_of_its_queue_the_default_one_too(
    log: Log, outbox_world: OutboxWorld
) -> None:
    app, _ = invoices(log)
    app.queue("fast", priorities={"high": 2, "plain": 1}, default_priority="plain", order="none")
    ran: list[str] = []

    @app.job("invoice.rush", queue="fast")
    async def rush(ctx: JobContext) -> None:
        ran.append(ctx.job_id)

    async with working(app):
        for name in ("high", "plain", "normal"):
            await outbox_world.execute(
                "INSERT INTO {table} (id, type, queue, args, headers) VALUES"
                f""" ('{name}', 'invoice.rush', 'fast', '{{{{}}}}', '{{{{"job-priority": "{name}"}}}}')"""
            )
        counts = await outbox_world.drain(log)
        await log.terminal(count=2)
    assert (counts.moved, counts.refused, sorted(ran)) == (2, 1, ["high", "plain"])
    reasons = await outbox_world.execute("SELECT id, refused FROM {table}")
    assert reasons == [("normal", "Queue 'fast' has no priority 'normal'; its classes: high, plain")]


@in_loop
async def test_options_of_a_sending_go_through_the_table(log: Log, outbox_world: OutboxWorld) -> None:
    app, job = invoices(log)
    app.queue("fast", priorities={"high": 2, "normal": 1}, order="none", spread=8)

    @app.job("invoice.rush", queue="fast")
    async def rush(*, order: int) -> None: ...

    rushed = rush.with_(tenant="acme", priority="high", delay="1h", headers={"x-a": "b"}).prepare(order=3)
    await outbox_world.add([rushed, job.with_(idempotency_key="k").prepare(order=1)])
    await outbox_world.drain(log)
    (record,) = await log.read(log.settings.topics.jobs("fast", "high"))
    assert record.key == rushed.record_key()
    same = {"job-not-before", "job-priority", "x-a", "ce_id"}
    assert {name: dict(record.headers)[name] for name in same} == {name: dict(rushed.headers)[name] for name in same}
    (keyed,) = await log.read(log.settings.topics.jobs("billing"))
    assert dict(keyed.headers)["job-idempotency-key"] == b"k"


@in_loop
async def test_rows_of_one_tenant_keep_their_order_over_many_batches(log: Log, outbox_world: OutboxWorld) -> None:
    _, job = invoices(log)
    count = outbox_table.MAX_ROWS * 2 + 30
    await outbox_world.add([job.prepare(tenant=f"t{n % 3}", order=n) for n in range(count)])
    assert (await outbox_world.drain(log)).moved == count
    records = await log.read(log.settings.topics.jobs("billing"))
    for tenant in range(3):
        orders = [int(record.value[9:-1]) for record in records if record.key == f"t{tenant}".encode()]
        assert orders == list(range(tenant, count, 3))


@pytest.mark.parametrize("step", ["delete", "read", "changed"])
@in_loop
async def test_a_relay_that_dies_at_any_step_neither_loses_nor_doubles_a_row(
    log: Log, outbox_world: OutboxWorld, step: str
) -> None:
    _, job = invoices(log)
    await outbox_world.add([job.prepare(order=n) for n in range(10)])
    dying = outbox_world.relay(log, table=CutTable(outbox_world.table(), step=step))
    with pytest.raises(Cut):
        await dying.run(asyncio.Event())
    await outbox_world.add([job.prepare(order=n) for n in range(10, 20)])
    after = await outbox_world.drain(log)
    assert after.recalled == (10 if step == "delete" else 0)
    assert sorted((await ids(log)).values()) == [1] * 20
    assert await outbox_world.count() == 0


@in_loop
async def test_relays_whose_lock_does_not_hold_fence_each_other_and_double_nothing(
    log: Log, outbox_world: OutboxWorld
) -> None:
    _, job = invoices(log)
    first, second = (outbox_world.relay(log, table=UnlockedTable(outbox_world.table())) for _ in range(2))
    async with running(first), running(second):
        for begin in range(0, 200, 20):
            await outbox_world.add([job.prepare(order=n) for n in range(begin, begin + 20)])
            await asyncio.sleep(0.02)
        await until(outbox_world.count, lambda count: count == 0)
    found = await ids(log)
    assert (len(found), set(found.values())) == (200, {1})


@in_loop
async def test_of_several_relays_one_leads_and_the_next_takes_over(log: Log, outbox_world: OutboxWorld) -> None:
    _, job = invoices(log)
    stops = [asyncio.Event(), asyncio.Event()]
    relays = [outbox_world.relay(log), outbox_world.relay(log)]
    running = [asyncio.create_task(relay.run(stop)) for relay, stop in zip(relays, stops, strict=True)]

    async def leading() -> list[bool]:
        return [relay.counts.is_leading for relay in relays]

    first = (await until(leading, any)).index(True)
    await outbox_world.add([job.prepare(order=1)])
    await until(outbox_world.count, lambda count: count == 0)
    assert relays[1 - first].counts.moved == 0
    stops[first].set()
    await running[first]
    await until(leading, lambda leads: leads[1 - first])
    await outbox_world.add([job.prepare(order=2)])
    await until(outbox_world.count, lambda count: count == 0)
    stops[1 - first].set()
    await running[1 - first]
    assert sorted((await ids(log)).values()) == [1, 1]


@in_loop
async def test_a_row_that_is_no_job_says_why_and_holds_up_nobody(log: Log, outbox_world: OutboxWorld) -> None:
    _, job = invoices(log)
    bad = ["'', 'billing', '{{}}', NULL", "'a', 'No Queue', '{{}}', NULL", "'a', 'billing', '[1]', NULL"]
    bad += [
        """'a', 'billing', '{{}}', '{{"job-attempt": "9"}}'""",
        """'a', 'billing', '{{}}', '{{"job-expires": "x"}}'""",
    ]
    for values in bad:
        await outbox_world.execute("INSERT INTO {table} (type, queue, args, headers) VALUES (" + values + ")")
    await outbox_world.add([job.prepare(order=1)])
    large = '{{"order": "' + "x" * log.settings.max_record_bytes + '"}}'
    await outbox_world.execute("INSERT INTO {table} (type, queue, args) VALUES ('a', 'billing', '" + large + "')")
    assert (await outbox_world.drain(log)).moved == 1
    reasons = [row[0] for row in await outbox_world.execute("SELECT refused FROM {table} ORDER BY position")]
    for reason, word in zip(reasons, ["type", "Queue", "object", "attempt", "expires", "1,000,000"], strict=True):
        assert word in reason
    await outbox_world.execute("""UPDATE {table} SET args = '{{"order": 2}}', refused = NULL WHERE args IS NOT NULL""")
    await outbox_world.execute("DELETE FROM {table} WHERE type = '' OR queue <> 'billing' OR headers IS NOT NULL")
    assert (await outbox_world.drain(log)).moved == 2


@in_loop
async def test_bytes_in_columns_of_text_are_read_as_text_and_their_rows_leave_the_table(
    log: Log, tmp_path: Path, prefix: str
) -> None:
    world = OutboxWorld("sqlite", f"sqlite:///{tmp_path / 'shop.db'}", f"outbox_{prefix}")
    await world.create()
    columns = ("id", "tenant", "type", "queue", "args", "headers", "record_key")
    texts = ("order-7", "acme", "invoice.send", "billing", '{"order": 7}', '{"x-shop": "7"}', "acme/7")
    values = ", ".join(f"X'{text.encode().hex()}'" for text in texts)
    await world.execute(f"INSERT INTO {{table}} ({', '.join(columns)}) VALUES ({values})")
    counts = await world.drain(log)
    assert (counts.moved, counts.refused, await world.count()) == (1, 0, 0)
    (record,) = await log.read(log.settings.topics.jobs("billing"))
    headers = dict(record.headers)
    assert (record.key, record.value) == (b"acme/7", b'{"order": 7}')
    assert (headers["ce_id"], headers["ce_type"], headers["x-shop"]) == (b"order-7", b"invoice.send", b"7")


@in_loop
async def test_a_row_whose_text_is_not_utf_8_is_refused_and_holds_up_nobody(
    log: Log, tmp_path: Path, prefix: str
) -> None:
    world = OutboxWorld("sqlite", f"sqlite:///{tmp_path / 'shop.db'}", f"outbox_{prefix}")
    await world.create()
    _, job = invoices(log)
    broken = "CAST(X'7b2261223a22fc227d' AS TEXT)"
    for columns, values in (
        ("id, args", "X'fc00fe', '{{}}'"),
        ("args", broken),
        ("headers", broken),
        ("tenant", broken),
        ("record_key", broken),
        ("created_at, tenant", f"{broken}, ''"),
    ):
        await world.execute(f"INSERT INTO {{table}} (type, queue, {columns}) VALUES ('a', 'billing', {values})")
    await world.add([job.prepare(order=1)])
    counts = await world.drain(log)
    assert (counts.moved, counts.refused, await world.count()) == (1, 6, 6)
    assert all(row[0] for row in await world.execute("SELECT refused FROM {table}"))


@in_loop
async def test_no_notification_is_waited_for_while_rows_wait_behind_a_full_batch(
    log: Log, outbox_world: OutboxWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_relay, "POLL_S", 3600.0)
    monkeypatch.setattr(outbox_table, "MAX_BATCH_BYTES", 1)
    _, job = invoices(log)
    await outbox_world.add([job.prepare(order=n) for n in range(5)])
    async with running(outbox_world.relay(log)):
        await until(outbox_world.count, lambda count: count == 0)


@in_loop
async def test_rows_behind_a_batch_of_rows_that_are_all_too_large_are_moved_at_once(
    log: Log, outbox_world: OutboxWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (outbox_postgres, outbox_sqlite):
        monkeypatch.setattr(module, "MAX_ROWS", 2)
    _, job = invoices(log)
    large = '{{"order": "' + "x" * log.settings.max_record_bytes + '"}}'
    for _ in range(2):
        await outbox_world.execute("INSERT INTO {table} (type, queue, args) VALUES ('a', 'billing', '" + large + "')")
    await outbox_world.add([job.prepare(order=1)])
    assert (await outbox_world.drain(log)).moved == 1


@in_loop
async def test_a_row_that_its_topic_does_not_take_is_refused_alone(log: Log, outbox_world: OutboxWorld) -> None:
    from dataclasses import replace

    _, job = invoices(log)
    await outbox_world.add([job.prepare(order=1)])
    large = '{{"order": "' + "x" * 1_100_000 + '"}}'
    await outbox_world.execute("INSERT INTO {table} (type, queue, args) VALUES ('a', 'billing', '" + large + "')")
    await outbox_world.add([job.prepare(order=3)])
    log.settings = replace(log.settings, max_record_bytes=1_500_000)
    relay = outbox_world.relay(log)

    async def settled() -> bool:
        return relay.counts.moved == 2 and relay.counts.refused == 1

    async with running(relay):
        await until(settled, bool)
    assert sorted((await ids(log)).values()) == [1, 1]


@in_loop
async def test_a_notification_wakes_the_relay(log: Log, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_relay, "POLL_S", 3600.0)
    world = OutboxWorld(dialect="postgres", url=postgres_url, name=f"waking_{log.name}")
    await world.create()
    _, job = invoices(log)
    relay = world.relay(log)
    async with running(relay):
        for number in range(3):
            await world.add([job.prepare(order=number)])
            await until(world.count, lambda count: count == 0)
    assert relay.counts.moved == 3


@in_loop
async def test_a_connection_that_the_database_ends_is_made_again(log: Log, postgres_url: str) -> None:
    world = OutboxWorld(dialect="postgres", url=postgres_url, name=f"ended_{log.name}")
    await world.create()
    _, job = invoices(log)
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE $1 AND pid <> pg_backend_pid()"
    async with running(world.relay(log)):
        for number in range(3):
            await world.add([job.prepare(order=number)])
            await until(world.count, lambda count: count == 0)
            other = await asyncpg.connect(postgres_url)
            await other.execute(end, f"%{world.name}%")
            await other.close()
        await world.add([job.prepare(order=9)])
        await until(world.count, lambda count: count == 0)
    assert sorted((await ids(log)).values()) == [1] * 4


@in_loop
async def test_relays_killed_again_and_again_move_each_row_once(log: Log, outbox_world: OutboxWorld) -> None:
    _, job = invoices(log)
    chance = random.Random(outbox_world.dialect)
    expected: set[str] = set()
    for _ in range(KILLS):
        child = start_relay(log, outbox_world)
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline)
        for _ in range(ROWS_PER_KILL // 50):
            jobs = [job.prepare(tenant=f"t{n % 5}", order=n) for n in range(50)]
            expected |= {each.id for each in jobs}
            await outbox_world.add(jobs)
        await asyncio.sleep(chance.random() * 0.1)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    await outbox_world.drain(log)
    found = await ids(log)
    assert set(found) == expected
    assert set(found.values()) == {1}


def start_relay(log: Log, world: OutboxWorld) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("relay_child.py")), "outbox", "run", world.url]
    command += ["--table", world.name, "--bootstrap", log.settings.bootstrap]
    environment = {**os.environ, "LOGQUEUE_TOPIC_PREFIX": log.settings.topic_prefix}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


@in_loop
async def test_the_commands_tell_what_waits_and_move_it(
    log: Log, outbox_world: OutboxWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOGQUEUE_TOPIC_PREFIX", log.settings.topic_prefix)
    _, job = invoices(log)
    await outbox_world.add([job.prepare(order=1)])

    async def tell(verb: str, *options: str) -> dict[str, object]:
        command = ["outbox", verb, outbox_world.url, "--table", outbox_world.name, "--json", *options]
        assert await asyncio.to_thread(main, command) == 0
        told: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return told

    assert (await tell("status"))["pending"] == 1
    moved = await tell("run", "--once", "--bootstrap", log.settings.bootstrap)
    assert (moved["moved"], moved["refused"]) == (1, 0)
    assert await tell("status") == {"pending": 0, "refused": 0, "oldest_at": None}


@in_loop
async def test_a_database_without_the_table_is_told_how_to_get_it(tmp_path: Path, postgres_url: str) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    for world in (
        OutboxWorld("sqlite", f"sqlite:///{empty}", "logqueue_outbox"),
        OutboxWorld("postgres", postgres_url, "no_such_table"),
    ):
        table = world.table()
        with pytest.raises(TableMissing, match="logqueue outbox ddl"):
            await table.open()
        await table.close()


def test_a_job_that_a_row_cannot_hold_is_refused_when_it_is_added() -> None:
    app = App("shop")

    @app.job("a")
    async def handler() -> None: ...

    job = handler.with_(headers={"x": b"\xff"}).prepare()
    with pytest.raises(InvalidArguments, match="UTF-8"):
        outbox.insert(job)
    with pytest.raises(outbox.InvalidOutbox, match="name"):
        outbox.insert(handler.prepare(), table="x; DROP TABLE y")
    with pytest.raises(outbox.InvalidOutbox, match="DB-API"):
        outbox.add(object(), handler.prepare())


def test_a_db_api_connection_is_given_its_own_parameter_style() -> None:
    app = App("shop")

    @app.job("a")
    async def handler(*, n: int) -> None: ...

    class Cursor:
        told: tuple[str, tuple[str, ...]] | None = None

        def __enter__(self) -> Cursor:
            return self

        def __exit__(self, *_: object) -> None: ...

        def execute(self, statement: str, values: tuple[str, ...]) -> None:
            Cursor.told = statement, values

    class Connection:
        def cursor(self) -> Cursor:
            return Cursor()

    job = handler.prepare(n=1)
    assert outbox.add(Connection(), job) == job.id
    assert Cursor.told is not None
    assert Cursor.told[0].count("%s") == len(Cursor.told[1]) == len(outbox.COLUMNS)
