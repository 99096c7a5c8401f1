"""The bridges to a real RabbitMQ: acknowledged when the log has it, committed when the exchange has it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiokafka import TopicPartition
from logqueue_consumers.bridges import amqp_in
from logqueue_consumers.bridges.amqp_in import AmqpInbound
from logqueue_consumers.bridges.amqp_line import BrokerGone, NoSuchPlace
from logqueue_consumers.bridges.amqp_messages import Received, Target, job_of, properties_of, short_text
from logqueue_consumers.bridges.amqp_sink import ExchangeSink
from logqueue_consumers.bridges.teller import Teller
from logqueue_consumers.bridges.telling import Told
from logqueue_consumers.bridges.topic_sink import TopicSink
from logqueue_consumers.topics.listing import partition_counts

from logqueue import App
from logqueue.clock import SystemClock
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.client import JobClient
from logqueue.jobs.connection import new_reader
from tests.bridges.running import running
from tests.consumers.conftest import Log, until, working
from tests.loops import in_loop
from tests.rest.test_remote_registry import CountingRegistry, serving


@asynccontextmanager
async def talking(url: str) -> AsyncIterator[AbstractChannel]:
    connection = await aio_pika.connect(url)
    try:
        yield await connection.channel()
    finally:
        await connection.close()


def inbound(log: Log, url: str, **target: Any) -> AmqpInbound:
    named = {"amqp_queue": log.name, "queue": "mail", "type": "mail.send"} | target
    return AmqpInbound(log.settings, url, Target(**named), clock=SystemClock())


async def publish(channel: AbstractChannel, queue: str, bodies: Sequence[bytes], **properties: Any) -> None:
    for number, body in enumerate(bodies):
        message = aio_pika.Message(body, message_id=f"m{number}", **properties)
        await channel.default_exchange.publish(message, queue)


async def jobs(log: Log) -> list[Any]:
    return await log.read(log.settings.topics.jobs("mail"))


@in_loop
async def test_messages_become_jobs_and_leave_their_queue(log: Log, amqp_url: str) -> None:
    app = log.app()
    seen: list[str] = []

    @app.job("mail.send", queue="mail")
    async def send(*, to: str) -> None:
        seen.append(to)

    async with talking(amqp_url) as channel, working(app):
        queue = await channel.declare_queue(log.name)
        bodies = [json.dumps({"to": f"{n}"}).encode() for n in range(20)] + [b"no json"]
        await publish(channel, log.name, bodies, headers={"job-tenant": "acme", "x-shop": 7}, correlation_id="c")
        async with running(inbound(log, amqp_url)):
            ended = await log.terminal(count=21)
        assert (await queue.get(fail=False)) is None
    assert seen == [str(n) for n in range(20)]
    assert Counter(str(status.state) for status in ended) == {"succeeded": 20, "dead": 1}
    headers = dict((await jobs(log))[0].headers)
    assert (headers["x-shop"], headers["amqp-message-id"], headers["amqp-correlation-id"]) == (b"7", b"m0", b"c")


@in_loop
async def test_a_bridge_that_dies_before_the_acknowledgement_makes_no_second_run(
    log: Log, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = log.app()
    seen: Counter[str] = Counter()

    @app.job("mail.send", queue="mail")
    async def send(*, to: str) -> None:
        seen[to] += 1

    class Killed(Exception):
        pass

    async def die(self: AmqpInbound, *_: Any) -> None:
        raise Killed

    async with talking(amqp_url) as channel:
        await channel.declare_queue(log.name)
        await publish(channel, log.name, [json.dumps({"to": f"{n}"}).encode() for n in range(5)])
        with monkeypatch.context() as patch:
            patch.setattr(AmqpInbound, "_acknowledge", die)
            with pytest.raises(Killed):
                await inbound(log, amqp_url).run(asyncio.Event())
        async with working(app), running(bridge := inbound(log, amqp_url)):

            async def moved() -> int:
                return bridge.counts.moved

            await until(moved, lambda count: count == 5)
            await log.terminal(count=5)

            async def records() -> int:
                return len(await jobs(log))

            count = await records()
            await until(lambda: log.done(app.group, "mail"), lambda done: done == count)
    assert count > 5  # what the dead one had sent was delivered, and sent, again
    assert seen == {str(n): 1 for n in range(5)}


@in_loop
async def test_nothing_is_acknowledged_while_the_log_takes_nothing(
    log: Log, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from logqueue.jobs.errors import SendFailed

    refusals = 0
    send_many = JobClient.send_many

    async def refuse(self: JobClient, found: Any) -> Any:
        nonlocal refusals
        if found and refusals < 2:
            refusals += 1
            raise SendFailed("the log is away")
        return await send_many(self, found)

    monkeypatch.setattr(JobClient, "send_many", refuse)
    async with talking(amqp_url) as channel:
        queue = await channel.declare_queue(log.name)
        await publish(channel, log.name, [b"{}"] * 3)
        async with running(bridge := inbound(log, amqp_url)):

            async def moved() -> int:
                return bridge.counts.moved

            await until(moved, lambda count: count == 3)
        assert (await queue.get(fail=False)) is None
    assert refusals == 2
    assert len(await jobs(log)) == 3


@in_loop
async def test_no_more_is_held_than_the_bound_while_the_log_is_slow(
    log: Log, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, asked = asyncio.Event(), asyncio.Event()
    send_many = JobClient.send_many

    async def wait(self: JobClient, found: Any) -> Any:
        asked.set()
        await going.wait()
        return await send_many(self, found)

    monkeypatch.setattr(JobClient, "send_many", wait)
    monkeypatch.setattr(amqp_in, "MAX_HELD_BYTES", 3_000_000)
    monkeypatch.setattr(amqp_in, "MAX_KEPT", 2)
    async with talking(amqp_url) as channel:
        queue = await channel.declare_queue(log.name)
        await publish(channel, log.name, [b"{}"] * 10)
        async with running(bridge := inbound(log, amqp_url)):
            await asked.wait()

            async def waiting() -> int | None:
                return (await channel.declare_queue(log.name, passive=True)).declaration_result.message_count

            assert await until(waiting, lambda count: count == 7) == 7
            going.set()

            async def moved() -> int:
                return bridge.counts.moved

            await until(moved, lambda count: count == 10)
        assert (await queue.get(fail=False)) is None


@pytest.mark.parametrize(("max_record_bytes", "count"), [(1_000_000, 134), (10_000, 500), (64_000_000, 101)])
def test_as_many_messages_are_held_as_the_largest_jobs_allow(max_record_bytes: int, count: int) -> None:
    assert amqp_in.prefetch(max_record_bytes) == count


@in_loop
async def test_where_a_message_died_before_is_told_in_headers(log: Log, amqp_url: str) -> None:
    async with talking(amqp_url) as channel:
        dead = await channel.declare_queue(f"{log.name}.dead")
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name}
        first = await channel.declare_queue(log.name, arguments=arguments)
        await publish(channel, first.name, [b"{}"])
        message = await first.get(timeout=10)
        await message.reject(requeue=False)
        async with running(inbound(log, amqp_url, amqp_queue=dead.name)):
            (record,) = await until(lambda: jobs(log), lambda found: len(found) == 1)
    headers = dict(record.headers)
    assert (headers["amqp-death-reason"], headers["amqp-death-queue"]) == (b"rejected", log.name.encode())
    assert (headers["amqp-death-count"], headers["amqp-deaths"]) == (b"1", b"1")
    assert headers["amqp-death-time"].startswith(b"20")


@in_loop
async def test_a_message_too_large_for_the_log_stays_in_its_queue_and_others_pass(log: Log, amqp_url: str) -> None:
    async with talking(amqp_url) as channel:
        queue = await channel.declare_queue(log.name)
        await publish(channel, log.name, [b"{}", b" " * 1_000_001, b"{}"])
        async with running(bridge := inbound(log, amqp_url)):

            async def moved() -> int:
                return bridge.counts.moved

            await until(moved, lambda count: count == 2)
        assert bridge.counts.kept == 1
        kept = await queue.get(timeout=10)
        assert len(kept.body) == 1_000_001


@in_loop
async def test_too_many_messages_that_are_too_large_end_the_bridge(
    log: Log, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amqp_in, "MAX_KEPT", 2)
    async with talking(amqp_url) as channel:
        await channel.declare_queue(log.name)
        await publish(channel, log.name, [b" " * 1_000_001] * 2)
        with pytest.raises(amqp_in.TooManyKept, match="too large"):
            await inbound(log, amqp_url).run(asyncio.Event())


@in_loop
async def test_what_cannot_be_reached_is_told(log: Log, amqp_url: str) -> None:
    with pytest.raises(NoSuchPlace, match="no-such-queue"):
        await inbound(log, amqp_url, amqp_queue="no-such-queue").run(asyncio.Event())
    with pytest.raises(NoSuchPlace, match="let us in"):
        await inbound(log, amqp_url.replace("guest:guest", "guest:wrong")).run(asyncio.Event())
    with pytest.raises(BrokerGone, match="answers"):
        await inbound(log, "amqp://127.0.0.1:1/").run(asyncio.Event())
    with pytest.raises(NoSuchPlace, match="no-such-exchange"):
        await Teller(log.settings, ExchangeSink(amqp_url, exchange="no-such-exchange"), name="x").run(asyncio.Event())


async def collect(queue: Any, count: int) -> list[AbstractIncomingMessage]:
    found: list[AbstractIncomingMessage] = []

    async def look() -> int:
        message = await queue.get(fail=False, no_ack=True)
        found.extend([message] if message is not None else [])
        return len(found)

    await until(look, lambda seen: seen == count)
    return found


@in_loop
async def test_outcomes_are_published_as_cloudevents(log: Log, amqp_url: str) -> None:
    app = log.app()

    @app.job("sum", queue="mail")
    async def add(*, n: int) -> int:
        return n + 1

    async with talking(amqp_url) as channel:
        exchange = await channel.declare_exchange(log.name, aio_pika.ExchangeType.TOPIC)
        queue = await channel.declare_queue(f"{log.name}.out")
        await queue.bind(exchange, "logqueue.job.succeeded")
        async with working(app):
            handles = [await add.send(tenant="acme", n=n) for n in range(3)]
            await log.terminal(count=3)
        async with running(Teller(log.settings, ExchangeSink(amqp_url, exchange=log.name), name=log.name)):
            messages = await collect(queue, 3)
    events = [json.loads(message.body) for message in messages]
    assert [event["subject"] for event in events] == [handle.id for handle in handles]
    assert [event["data"]["result"] for event in events] == [1, 2, 3]
    assert {message.content_type for message in messages} == {"application/cloudevents+json"}
    assert [message.message_id for message in messages] == [f"{handle.id}/0/succeeded" for handle in handles]


def test_what_is_longer_than_amqp_takes_is_told_under_a_shorter_id() -> None:
    def told(id_: str) -> Told:
        return Told(id=id_, key=b"t", type="ü" * 255, content_type="a/" + "b" * 300, body=b"", headers={"job-id": id_})

    def ids(*texts: str) -> set[str]:
        return {properties_of(told(text))["message_id"] for text in texts}

    for text in ("x" * 512, "𝄞" * 512, "x" * 256, "a" + "ü" * 130):
        properties = properties_of(told(text))
        assert aio_pika.Message(b"", **properties).properties.marshal()
        assert properties["headers"]["job-id"] == text
    assert ids("x" * 255, "job/0/dead") == {"x" * 255, "job/0/dead"}
    assert len(ids("x" * 512, "x" * 512, "x" * 511 + "y")) == 2
    assert short_text("ü" * 255) == "ü" * 127


@in_loop
async def test_a_job_with_the_longest_id_is_told_and_those_behind_it(log: Log, amqp_url: str) -> None:
    app = log.app()

    @app.job("ü" * 200, queue="mail")
    async def send() -> None: ...

    async with talking(amqp_url) as channel, app:
        exchange = await channel.declare_exchange(log.name, aio_pika.ExchangeType.FANOUT)
        queue = await channel.declare_queue(f"{log.name}.out")
        await queue.bind(exchange)
        long, short = await send.with_(id="x" * 512).send(), await send.send()
        async with running(
            Teller(log.settings, ExchangeSink(amqp_url, exchange=log.name), name=log.name, queue="mail")
        ):
            messages = await collect(queue, 2)
    assert [message.headers["ce_id"] for message in messages] == [long.id, short.id]
    assert messages[1].message_id == short.id


@in_loop
async def test_a_job_whose_headers_are_more_than_a_frame_is_told_without_the_largest(log: Log, amqp_url: str) -> None:
    async with talking(amqp_url) as channel:
        exchange = await channel.declare_exchange(log.name, aio_pika.ExchangeType.FANOUT)
        queue = await channel.declare_queue(f"{log.name}.out")
        await queue.bind(exchange)
        large = [("x-large", b"x" * 140_000), ("x-other", b"y" * 120_000), ("ce_id", b"j1"), ("x-shop", b"7")]
        many = [(f"x-{number}", b"\xff" * 300) for number in range(300)] + [("ce_id", b"j2")]
        long = [("x" * 256, b"1"), ("ce_id", b"j3")]
        await ensure_topics(log.settings, [spec := log.settings.topics.jobs_spec("mail")])
        for headers in (large, many, long):
            await log.produce(spec.name, b"{}", headers=headers, partition=0)
        sink = ExchangeSink(amqp_url, exchange=log.name)
        async with running(Teller(log.settings, sink, name=log.name, queue="mail")):
            messages = await collect(queue, 3)
    assert [message.headers["ce_id"] for message in messages] == ["j1", "j2", "j3"]
    first, second, third = (set(message.headers) for message in messages)
    assert first == {"ce_id", "job-tenant", "x-other", "x-shop"}
    assert 100 < len(second) < 300
    assert third == {"ce_id", "job-tenant"}


@in_loop
async def test_what_the_exchange_did_not_confirm_is_told_again(log: Log, amqp_url: str) -> None:
    app = log.app()

    @app.job("mail.send", queue="mail")
    async def send(*, n: int) -> None: ...

    class Unlucky(ExchangeSink):
        failures = 0

        async def tell(self, messages: Sequence[Told]) -> None:
            await super().tell(messages)
            if Unlucky.failures < 1:
                Unlucky.failures += 1
                raise BrokerGone("no confirmation")

    async with talking(amqp_url) as channel, app:
        exchange = await channel.declare_exchange(log.name, aio_pika.ExchangeType.FANOUT)
        queue = await channel.declare_queue(f"{log.name}.out")
        await queue.bind(exchange)
        handles = [await send.send(tenant="acme", n=n) for n in range(3)]
        async with running(Teller(log.settings, Unlucky(amqp_url, exchange=log.name), name=log.name, queue="mail")):
            messages = await collect(queue, 6)
        again = Teller(log.settings, ExchangeSink(amqp_url, exchange=log.name), name=log.name, queue="mail")
        async with running(again):
            last = await send.send(tenant="acme", n=9)
            (only,) = await collect(queue, 1)
    ids = [handle.id for handle in handles]
    assert [message.message_id for message in messages] == ids + ids
    assert (only.message_id, only.type, only.body, only.headers["job-tenant"]) == (
        last.id,
        "mail.send",
        b'{"n":9}',
        "acme",
    )


@in_loop
async def test_the_jobs_of_a_queue_are_those_of_all_its_priorities(log: Log) -> None:
    app = log.app()
    app.queue("mail", priorities={"high": 2, "normal": 1})

    @app.job("mail.send", queue="mail")
    async def send() -> None: ...

    class Memory:
        def __init__(self) -> None:
            self.ids: list[str] = []

        async def open(self) -> None: ...

        async def close(self) -> None: ...

        async def tell(self, messages: Sequence[Told]) -> None:
            self.ids += [told.id for told in messages]

    @app.job("other", queue="mail-not")
    async def other() -> None: ...

    async with app:
        sent = [await send.send(), await send.with_(priority="high").send()]
        await other.send()
    sink = Memory()

    async def told() -> list[str]:
        return sink.ids

    async with running(Teller(log.settings, sink, name=log.name, queue="mail")):
        await until(told, lambda ids: len(ids) >= 2)
    assert sorted(sink.ids) == sorted(job.id for job in sent)


async def ends_of(log: Log, topic: str) -> dict[TopicPartition, int]:
    """Where the partitions of a topic end."""
    count = (await partition_counts(log.settings))[topic]
    async with new_reader(log.settings) as reader:
        return dict(await reader.end_offsets([TopicPartition(topic, number) for number in range(count)]))


@in_loop
async def test_outcomes_become_events_in_a_topic(log: Log) -> None:
    app = log.app()

    @app.job("sum", queue="mail")
    async def add(*, n: int) -> int:
        return n + 1

    async with working(app):
        handle = await add.send(n=1)
        await log.terminal(count=1)
    topic = f"{log.name}-outcomes"
    async with running(Teller(log.settings, TopicSink(log.settings, topic), name=topic)):
        (record,) = await until(lambda: log.read(topic), lambda found: len(found) == 1)
        # Behind the markers of the worker's transactions, too, there is nothing left to tell.
        ends = await ends_of(log, log.settings.topics.status)
        group = f"{log.settings.topic_prefix}logqueue.bridge.{topic}"
        await until(lambda: log.committed(group), lambda found: {tp: at for tp, (at, _) in found.items()} == ends)
    assert dict(record.headers)["content-type"] == b"application/cloudevents+json"
    assert json.loads(record.value)["subject"] == handle.id


@in_loop
async def test_outcomes_are_read_with_the_schemas_of_a_registry_elsewhere(log: Log) -> None:
    with serving(CountingRegistry()) as url:
        settings = replace(log.settings, schema_registry_url=url)
        app = App(log.name, settings=settings)

        @app.job("mail.send", queue="mail")
        async def send() -> None: ...

        topic = f"{log.name}-outcomes"
        async with working(app):
            handle = await send.send()
            assert (await handle.wait(timeout=60)).has_succeeded
        async with running(Teller(settings, TopicSink(settings, topic), name=topic)):
            (record,) = await until(lambda: log.read(topic), lambda found: len(found) == 1)
    assert json.loads(record.value)["subject"] == handle.id


def test_a_message_is_the_same_job_whenever_it_is_delivered() -> None:
    target = Target(amqp_queue="q", queue="mail", type="mail.send")
    message = Received(body=b"{}", message_id="m1")
    ids = {job_of(message, target, now_ms=now).id for now in (1, 2)}
    other = job_of(message, Target(amqp_queue="other", queue="mail", type="mail.send"), now_ms=1).id
    assert len(ids | {other}) == 2
    nameless = Received(body=b"{}")
    assert job_of(nameless, target, now_ms=1).id != job_of(nameless, target, now_ms=1).id
    long = Received(body=b"{}", message_id="x" * 400)
    assert job_of(long, target, now_ms=1).id == job_of(long, target, now_ms=2).id


def test_an_event_in_a_message_is_opened() -> None:
    body = {"specversion": "1.0", "id": "1", "source": "/s", "type": "a", "partitionkey": "acme", "data": {"n": 1}}
    content_type = "application/cloudevents+json"
    job = job_of(
        Received(body=json.dumps(body).encode(), content_type=content_type),
        Target(amqp_queue="q", queue="mail"),
        now_ms=1,
    )
    assert (job.type, job.tenant, json.loads(job.value), job.is_keyed) == ("a", "acme", {"n": 1}, True)
    broken = job_of(Received(body=b"{", content_type=content_type), Target(amqp_queue="q", queue="mail"), now_ms=1)
    assert broken.value == b"{"
