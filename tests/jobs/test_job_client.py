"""Sending jobs and waiting for them, on every engine."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaTimeoutError
from logqueue_schemas.avro import content_id
from logqueue_schemas.job_status import RANKS, SCHEMA, JobStatus, State, StatusCodec, StatusError

from logqueue import App
from logqueue.jobs.admin import TopicsNotCreated, ensure_topics
from logqueue.jobs.bulk import BulkSendFailed
from logqueue.jobs.connection import new_admin, new_producer, new_reader, start_client, stop_client
from logqueue.jobs.errors import (
    BrokerUnreachable,
    ClientClosed,
    InvalidArguments,
    JobFailed,
    JobTooLarge,
    SendFailed,
    WaitTimeout,
)
from logqueue.jobs.handle import JobHandle
from logqueue.jobs.headers import read_job_headers
from logqueue.jobs.partitioning import partition_of
from logqueue.jobs.registry import SchemaRegistry
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicSpec
from tests.conftest import Engine
from tests.engines.apache import free_ports

BOUNDED_S = 30
"""Far above the timeouts of the settings, far below a hang."""
PutStatus = Callable[..., Awaitable[None]]


def make_app(engine: Engine, prefix: str, **changes: Any) -> App:
    app = App("shop", settings=Settings(bootstrap=engine.bootstrap, topic_prefix=f"{prefix}.", **changes))
    app.queue("emails", default_type="email.send", partitions=3)

    @app.job("email.send", queue="emails")
    async def send_email(ctx: Any, *, to: str) -> None: ...

    return app


async def records_of(app: App, topic: str) -> list[Any]:
    reader = await start_client(lambda: new_reader(app.settings), app.settings)
    try:
        partitions = await ensure_topics(app.settings, [TopicSpec(name=topic, partitions=1)])
        places = [TopicPartition(topic, p) for p in range(partitions[topic])]
        reader.assign(places)
        ends = await reader.end_offsets(places)
        found: list[Any] = []
        while len(found) < sum(ends.values()):
            for batch in (await reader.getmany(timeout_ms=200)).values():
                found.extend(batch)
        return found
    finally:
        await stop_client(reader)


@asynccontextmanager
async def worker_of(app: App) -> AsyncIterator[PutStatus]:
    """What a worker does as far as senders can tell: it writes statuses."""
    await ensure_topics(app.settings, app.topic_specs())
    codec = await SchemaRegistry(app.settings).status_codec()
    producer: AIOKafkaProducer = await start_client(lambda: new_producer(app.settings), app.settings)

    async def put(job: JobHandle, state: State, *, codec: StatusCodec = codec, **fields: Any) -> None:
        status = JobStatus(
            id=job.id,
            type=job.type,
            queue=job.queue,
            tenant=job.tenant,
            group=app.group,
            state=state,
            rank=RANKS[state],
            at=time.time_ns() // 1000,
            topic=job.topic,
            partition=job.partition,
            offset=job.offset,
            **fields,
        )
        topic = app.settings.topics.status
        await producer.send_and_wait(
            topic, key=status.key, value=codec.encode(status), partition=partition_of(job.tenant.encode(), 4)
        )

    try:
        yield put
    finally:
        await stop_client(producer)


def test_a_job_that_was_sent_is_on_the_log_where_its_handle_says(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        async with make_app(engine, prefix) as app:
            job = await app.jobs["email.send"].send(tenant="acme", to="a@b.c")
            (record,) = await records_of(app, job.topic)
        assert (record.topic, record.partition, record.offset) == (job.topic, job.partition, job.offset)
        assert (record.topic, record.partition) == (f"{prefix}.jobs.emails", partition_of(b"acme", 3))
        assert (record.key, record.value, record.timestamp) == (b"acme", b'{"to":"a@b.c"}', job.created_ms)
        assert read_job_headers(record.headers).id == job.id

    asyncio.run(scenario())


def test_kafkas_own_partitioner_sends_a_tenant_to_the_same_partition(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        async with make_app(engine, prefix) as app:
            producer: AIOKafkaProducer = await start_client(lambda: new_producer(app.settings), app.settings)
            for tenant in ("acme", "zebra", "ü", "x" * 50):
                job = await app.jobs["email.send"].send(tenant=tenant, to="a")
                foreign = await producer.send_and_wait(job.topic, b"{}", key=tenant.encode())
                assert foreign.partition == job.partition
            await stop_client(producer)

    asyncio.run(scenario())


def test_bulk_sending_keeps_each_tenants_order_and_answers_in_the_callers(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        async with make_app(engine, prefix) as app:
            send = app.jobs["email.send"]
            jobs = [send.prepare(tenant=f"t{n % 7}", to=str(n) * (n % 50)) for n in range(6_000)]
            handles = await app.send_many(iter(jobs))
            assert [handle.id for handle in handles] == [job.id for job in jobs]
            stored = {(r.partition, r.offset): r for r in await records_of(app, handles[0].topic)}
        assert len(stored) == len(jobs)
        for job, handle in zip(jobs, handles, strict=True):
            record = stored[handle.partition, handle.offset]
            assert (record.key, record.value) == (job.tenant.encode(), job.value)
        for tenant in {job.tenant for job in jobs}:
            offsets = [handle.offset for handle in handles if handle.tenant == tenant]
            assert offsets == sorted(offsets)

    asyncio.run(scenario())


def test_many_jobs_of_several_queues_and_classes_find_their_topics_in_the_order_of_the_jobs(
    engine: Engine, prefix: str
) -> None:
    async def scenario() -> None:
        async with make_app(engine, prefix) as app:
            app.queue("bills", partitions=2, priorities={"high": 2, "normal": 1})

            @app.job("bill", queue="bills")
            async def bill(*, number: int) -> None: ...

            send, urgent = app.jobs["email.send"], bill.with_(priority="high")
            makers = [
                lambda n: send.prepare(tenant=f"t{n}", to=str(n)),
                lambda n: bill.prepare(tenant=f"t{n}", number=n),
                lambda n: urgent.prepare(tenant=f"t{n}", number=n),
            ]
            first = await bill.send(tenant="t0", number=-1)
            handles = await app.send_many([makers[n % 3](n % 30) for n in range(600)])
            last = await bill.send(tenant="t1", number=-2)
            names = app.settings.topics
            topics = [names.jobs("emails"), names.jobs("bills"), names.jobs("bills", "high")]
            assert [handle.topic for handle in handles] == topics * 200
            stored = {(topic, r.partition, r.offset): r for topic in topics for r in await records_of(app, topic)}
            assert [stored[h.topic, h.partition, h.offset].key for h in handles] == [
                b"t%d" % (n % 30) for n in range(600)
            ]
            alike = [first, *(h for h in handles if h.topic == topics[1]), last]
            for partition in range(2):
                offsets = [handle.offset for handle in alike if handle.partition == partition]
                assert offsets == list(range(len(offsets))), "single sends and many share one order"

    asyncio.run(scenario())


def test_sending_nothing_in_bulk_is_nothing(engine: Engine, prefix: str) -> None:
    async def scenario() -> list[JobHandle]:
        async with make_app(engine, prefix) as app:
            return await app.send_many([])

    assert asyncio.run(scenario()) == []


def test_an_error_among_many_leaves_the_jobs_before_it_settled(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        async with make_app(engine, prefix, max_record_bytes=10_000) as app:
            send = app.jobs["email.send"]
            good = [send.prepare(tenant="t", to="x" * 9_000) for _ in range(100)]
            with pytest.raises(JobTooLarge):
                await app.send_many([*good, send.prepare(tenant="t", to="x" * 20_000), *good])
            after = await send.send(tenant="t", to="a")
            stored = await records_of(app, after.topic)
            assert [r.value for r in stored[:-1]] == [good[0].value] * (len(stored) - 1), "a prefix, nothing else"

    asyncio.run(scenario())


def test_a_job_with_wrong_arguments_is_not_sent(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        async with make_app(engine, prefix) as app:
            with pytest.raises(InvalidArguments) as refused:
                await app.jobs["email.send"].send(tenant="acme", to=5)
            assert refused.value.field == "to"
            assert await records_of(app, app.settings.topics.jobs("emails")) == []

    asyncio.run(scenario())


def test_a_job_above_our_limit_is_refused_before_it_is_sent(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        async with make_app(engine, prefix, max_record_bytes=1_000) as app:
            with pytest.raises(JobTooLarge, match="LOGQUEUE_MAX_RECORD_BYTES"):
                await app.jobs["email.send"].send(to="x" * 1_000)

    asyncio.run(scenario())


def test_a_refusal_by_the_log_is_told_and_later_jobs_still_arrive(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        async with make_app(engine, prefix, max_record_bytes=100_000) as app:
            topic = app.settings.topics.jobs("emails")
            await ensure_topics(
                app.settings, [TopicSpec(name=topic, partitions=1, configs={"max.message.bytes": "2000"})]
            )
            send = app.jobs["email.send"]
            first = await send.send(to="a")
            with pytest.raises(JobTooLarge, match=r"max\.message\.bytes"):
                await send.send(to="x" * 5_000)
            second = await send.send(to="b")
            assert second.offset == first.offset + 1
            with pytest.raises(BulkSendFailed) as failed:
                await app.send_many([send.prepare(to="x" * 5_000)])
            assert failed.value.confirmed == []
            third = await send.send(to="c")
            assert third.offset == second.offset + 1

    asyncio.run(scenario())


def test_topics_are_created_once_with_their_configurations_however_many_ask(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        app = make_app(engine, prefix)
        specs = app.topic_specs()
        answers = await asyncio.gather(*(ensure_topics(app.settings, specs) for _ in range(4)))
        assert answers == [{spec.name: spec.partitions for spec in specs}] * 4
        admin = await start_client(lambda: new_admin(app.settings), app.settings)
        try:
            for spec in specs:
                (described,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, spec.name)])
                values = {entry[0]: entry[1] for entry in described.resources[0][4]}
                assert {name: values[name] for name in spec.configs} == spec.configs
        finally:
            await stop_client(admin)

    asyncio.run(scenario())


def test_a_topic_that_the_log_refuses_is_told_with_its_reason(engine: Engine, prefix: str) -> None:
    spec = TopicSpec(name=f"{prefix}.x", partitions=1, configs={"cleanup.policy": "burn"})
    with pytest.raises(TopicsNotCreated, match=rf"Topic {prefix}\.x was not created: .*burn"):
        asyncio.run(ensure_topics(Settings(bootstrap=engine.bootstrap), [spec]))


def test_a_schema_is_registered_once_however_many_workers_start(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        settings = make_app(engine, prefix).settings
        codecs = await asyncio.gather(*(SchemaRegistry(settings).status_codec() for _ in range(4)))
        assert {codec.schema_id for codec in codecs} == {content_id(SCHEMA)}
        other = SchemaRegistry(settings)
        assert other.schema_of(codecs[0].schema_id) is None
        await other.refresh()
        assert other.schema_of(codecs[0].schema_id) == SCHEMA
        assert [r.version for r in other.table.versions(f"{prefix}.jobs.status-value")] == [1]
        decode = other.decoder_of(codecs[0].schema_id)
        assert decode is not None
        assert other.decoder_of(1) is None

    asyncio.run(scenario())


def test_two_schemas_of_one_subject_get_two_versions(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        settings = make_app(engine, prefix).settings
        one, two = SchemaRegistry(settings), SchemaRegistry(settings)
        made = await asyncio.gather(one.register("s", "string"), two.register("s", "bytes"))
        third = SchemaRegistry(settings)
        await third.refresh()
        assert {r.version for r in third.table.versions("s")} == {1, 2}
        assert [third.schema_of(r.id) for r in made] == ["string", "bytes"]

    asyncio.run(scenario())


def test_waiting_ends_with_the_final_state_and_its_result(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        async with make_app(engine, prefix) as app, worker_of(app) as put:
            job = await app.jobs["email.send"].send(tenant="acme", to="a")
            waiting = asyncio.create_task(job.wait(timeout=60))
            await put(job, State.RUNNING)
            await put(job, State.SUCCEEDED, result=b'{"sent":true}')
            state = await waiting
            assert (state.state, state.result, state.error_type) == (State.SUCCEEDED, {"sent": True}, None)
            assert state.raise_for_state() is state

    asyncio.run(scenario())


def test_a_job_that_ended_before_anyone_waited_is_found(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        async with make_app(engine, prefix) as app, worker_of(app) as put:
            jobs = [await app.jobs["email.send"].send(tenant=f"t{n}", to="a") for n in range(8)]
            for job in jobs:
                await put(job, State.DEAD, error=StatusError("NoSuchUser", "who?", "permanent"))
            states = await asyncio.gather(*(job.wait(timeout=60) for job in jobs))
            assert [state.error_type for state in states] == ["NoSuchUser"] * 8
            assert [(await job.wait(timeout=60)).state for job in jobs] == [State.DEAD] * 8
            with pytest.raises(JobFailed, match="NoSuchUser: who"):
                states[0].raise_for_state()

    asyncio.run(scenario())


def test_a_wait_has_an_end_and_says_what_was_seen(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        async with make_app(engine, prefix) as app, worker_of(app) as put:
            job = await app.jobs["email.send"].send(tenant="acme", to="a")
            assert await job.status() is None
            with pytest.raises(WaitTimeout, match=r"has not ended within 0\.2 s: no worker has begun it"):
                await job.wait(timeout="200ms")
            await put(job, State.RETRYING, attempt=2)
            state = await job.status()
            assert state is not None
            assert (state.state, state.attempt, state.is_terminal) == (State.RETRYING, 2, False)
            with pytest.raises(WaitTimeout, match=r"it is retrying \(attempt 2\)"):
                await job.wait(timeout=0.1)

    asyncio.run(scenario())


def test_an_older_status_that_comes_late_moves_nothing_back(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        async with make_app(engine, prefix) as app, worker_of(app) as put:
            job = await app.jobs["email.send"].send(tenant="acme", to="a")
            await put(job, State.RUNNING, attempt=2)
            await put(job, State.RETRYING, attempt=1)
            await put(job, State.DEAD, attempt=3, shadow=True)
            state = await job.status()
            assert state is not None
            assert (state.state, state.attempt) == (State.RUNNING, 2)

    asyncio.run(scenario())


def test_a_record_that_is_no_status_is_passed_over(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        async with make_app(engine, prefix) as app, worker_of(app) as put:
            job = await app.jobs["email.send"].send(tenant="acme", to="a")
            producer: AIOKafkaProducer = await start_client(lambda: new_producer(app.settings), app.settings)
            for value in (None, b"{}", b"\x00\x00\x00\x00\x63abc"):
                partition = partition_of(b"acme", 4)
                await producer.send_and_wait(app.settings.topics.status, value, key=b"k", partition=partition)
            await stop_client(producer)
            await put(job, State.SUCCEEDED)
            assert (await job.wait(timeout=60)).has_succeeded

    asyncio.run(scenario())


def test_closing_the_app_ends_its_waits(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        app = make_app(engine, prefix)
        job = await app.jobs["email.send"].send(tenant="acme", to="a")
        assert await job.status() is None
        waiting = asyncio.create_task(job.wait(timeout=60))
        await asyncio.sleep(0)
        await app.close()
        with pytest.raises(ClientClosed):
            await waiting
        again = await app.jobs["email.send"].send(tenant="acme", to="a")
        assert again.offset == job.offset + 1
        await app.close()

    asyncio.run(scenario())


def test_a_broker_that_is_not_there_is_named_in_bounded_time() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        app = App("shop", settings=Settings(bootstrap=address, connect_timeout_s=0.6, connect_backoff_s=0.1))

        @app.job("a")
        async def a() -> None: ...

        async def scenario() -> None:
            async with app:
                with pytest.raises(
                    BrokerUnreachable, match=f"No Kafka broker answers at {address} .*LOGQUEUE_BOOTSTRAP"
                ):
                    await a.send()
                with pytest.raises(BrokerUnreachable):
                    await app.send_many([a.prepare()])

        asyncio.run(scenario())


def test_a_broker_that_accepts_and_says_nothing_is_named_in_bounded_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = Settings(bootstrap=address, connect_timeout_s=0.5, request_timeout_s=5)
        with pytest.raises(BrokerUnreachable, match=f"{address} .*no answer in time"):
            asyncio.run(ensure_topics(settings, [TopicSpec(name="x", partitions=1)]))


@contextmanager
def own_broker(folder: Path, *, port: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A broker process of this test alone, which it may freeze."""
    command = [sys.executable, "-m", "logqueue.broker", "--data-dir", str(folder / "data"), "--kafka-port", port]
    broker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert broker.stdout is not None
    try:
        yield broker, broker.stdout.readline().rsplit(" ", 1)[1].strip()
    finally:
        broker.send_signal(signal.SIGCONT)
        broker.terminate()
        broker.wait(20)
        broker.stdout.close()


@pytest.mark.parametrize("bulk", [False, True])
def test_a_send_to_a_frozen_broker_ends_in_bounded_time_and_may_still_arrive_once(tmp_path: Path, bulk: bool) -> None:
    async def scenario(broker: subprocess.Popen[str], bootstrap: str) -> None:
        app = make_app(Engine("embedded", bootstrap), "x", send_timeout_s=3, request_timeout_s=6)
        send = app.jobs["email.send"]
        await send.send(tenant="t", to="before")
        broker.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(SendFailed, match=rf"{bootstrap} within 3 s"):
            await (app.send_many([send.prepare(tenant="t", to="a")]) if bulk else send.send(tenant="t", to="a"))
        assert time.monotonic() - started < BOUNDED_S
        broker.send_signal(signal.SIGCONT)
        await app.close()
        assert [r.value for r in await records_of(app, "x.jobs.emails")] == [b'{"to":"before"}', b'{"to":"a"}']

    with own_broker(tmp_path, port="0") as (broker, bootstrap):
        asyncio.run(scenario(broker, bootstrap))


def test_a_producer_that_is_given_up_tells_what_has_become_of_its_records(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(broker: subprocess.Popen[str], bootstrap: str) -> None:
        settings = Settings(bootstrap=bootstrap)
        await ensure_topics(settings, [TopicSpec(name="t", partitions=2)])
        producer = await start_client(lambda: new_producer(settings), settings)
        await producer.send_and_wait("t", b"before", partition=0)
        broker.send_signal(signal.SIGSTOP)
        sent = []
        for partition in (0, 1):
            batch = producer.create_batch()
            batch.append(timestamp=1, key=None, value=b"x")
            sent.append(await producer.send_batch(batch, "t", partition=partition))
        await stop_client(producer, timeout_s=0.2)
        async with asyncio.timeout(BOUNDED_S):
            told = await asyncio.gather(*sent, return_exceptions=True)
        assert [type(error) for error in told] == [KafkaTimeoutError] * 2

    with own_broker(tmp_path, port="0") as (broker, bootstrap):
        asyncio.run(scenario(broker, bootstrap))
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_closing_gives_up_in_bounded_time_on_a_broker_that_is_gone(tmp_path: Path) -> None:
    async def scenario(broker: subprocess.Popen[str], bootstrap: str) -> None:
        app = make_app(Engine("embedded", bootstrap), "x", send_timeout_s=3, request_timeout_s=3, connect_timeout_s=3)
        send = app.jobs["email.send"]
        await send.send(to="before")
        broker.kill()
        broker.wait(10)
        with pytest.raises(SendFailed):
            await send.send(to="a")
        started = time.monotonic()
        await app.close()
        assert time.monotonic() - started < BOUNDED_S

    with own_broker(tmp_path, port="0") as (broker, bootstrap):
        asyncio.run(scenario(broker, bootstrap))


def test_sends_and_waits_outlive_the_death_of_their_broker(tmp_path: Path) -> None:
    async def scenario(folder: Path) -> None:
        (port,) = free_ports(1)  # of those that no client is given while the broker is away
        with own_broker(folder, port=str(port)) as (broker, bootstrap):
            app = make_app(Engine("embedded", bootstrap), "x")
            send = app.jobs["email.send"]
            before = await send.send(tenant="t", to="before")
            assert await before.status() is None
            waiting = asyncio.create_task(before.wait(timeout=60))
            broker.kill()
            broker.wait(10)
        sending = asyncio.create_task(send.send(tenant="t", to="meanwhile"))
        with own_broker(folder, port=str(port)) as (_, again):
            assert again == bootstrap
            meanwhile = await sending
            after = await app.send_many([send.prepare(tenant="t", to="after")])
            assert [meanwhile.offset, after[0].offset] == [before.offset + 1, before.offset + 2]
            async with worker_of(app) as put:
                await put(before, State.SUCCEEDED)
            assert (await waiting).has_succeeded
            await app.close()

    asyncio.run(scenario(tmp_path))
