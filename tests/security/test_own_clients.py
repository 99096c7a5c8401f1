"""Our own producers, readers and coordinators' questions over TLS and SASL, in both kinds of loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from aiokafka import TopicPartition
from logqueue_consumers.transactions.transaction import init_session
from logqueue_consumers.transactions.wire import LogClient

from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.connection import new_producer, new_reader
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicSpec
from logqueue.testing import EmbeddedBroker
from tests.security.authority import Authority
from tests.security.people import ADMIN

LARGE = b"x" * 600_000  # more than one frame of TLS, more than one read


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL", "SSL"])
def test_our_clients_write_read_and_ask_coordinators(
    fortress: EmbeddedBroker,
    authority: Authority,
    protocol: str,
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    settings = Settings(
        bootstrap=fortress.address_of(protocol).replace("127.0.0.1", "localhost"),
        security_protocol=protocol,
        sasl_mechanism="SCRAM-SHA-256",
        sasl_username=ADMIN.name,
        sasl_password=ADMIN.password,
        ssl_cafile=str(authority.path),
        ssl_certfile=str(authority.issue("root")) if protocol == "SSL" else None,
    )
    topic = f"own-{protocol.lower()}-{make_loop.__module__.partition('.')[0]}"
    at = TopicPartition(topic, 0)

    async def main() -> None:
        await ensure_topics(settings, [TopicSpec(name=topic, partitions=1, configs={})])
        client = LogClient(settings)
        await client.start()
        async with new_producer(settings) as producer, new_reader(settings) as reader:
            reader.assign([at])
            for value in (b"1", LARGE, b"3"):
                await producer.send_and_wait(topic, value, partition=0)
                found: list[bytes] = []
                while not found:
                    found = [record.value for record in (await reader.getmany(timeout_ms=500)).get(at, ())]
                assert found == [value]
        session = await init_session(client, topic, timeout_ms=10_000, max_backoff_s=1.0)
        assert session.epoch == 0
        await client.stop()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())
