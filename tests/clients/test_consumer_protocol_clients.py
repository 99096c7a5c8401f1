"""confluent-kafka with `group.protocol=consumer` (KIP-848): joining, leaving, dying, static, regex, and migration."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from logqueue.testing import EmbeddedBroker
from tests.conftest import Engine

WAIT_SECONDS = 40
POLL_SECONDS = 0.05
PARTITIONS = 4


class Members:
    """Consumers of one group on one broker; what they read is counted by partition and offset."""

    def __init__(self, bootstrap: str, group: str, stack: ExitStack) -> None:
        self.bootstrap = bootstrap
        self.group = group
        self.read: list[tuple[int, int]] = []
        self.open: list[Consumer] = []
        self._stack = stack

    def add(self, *topics: str, **config: Any) -> Consumer:
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": self.group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "group.protocol": "consumer",
                **{name.replace("_", "."): value for name, value in config.items()},
            }
        )
        consumer.subscribe(list(topics))
        self.open.append(consumer)
        self._stack.callback(self.close, consumer)
        return consumer

    def close(self, consumer: Consumer) -> None:
        if consumer in self.open:
            self.open.remove(consumer)
            consumer.close()

    def poll(self) -> None:
        for consumer in self.open:
            message = consumer.poll(POLL_SECONDS / len(self.open))
            if message is not None:
                self._take(consumer, message)

    def _take(self, consumer: Consumer, message: Message) -> None:
        error = message.error()
        if error is None:
            self.read.append((message.partition() or 0, message.offset() or 0))
            consumer.commit(message, asynchronous=True)
        else:
            assert error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._ALL_BROKERS_DOWN), error

    def until_shares_are(self, *sizes: int) -> None:
        """Poll until the members hold this many partitions each, in whatever order, and none twice."""
        self.until(lambda: sorted(len(consumer.assignment()) for consumer in self.open) == sorted(sizes))
        every = [(p.topic, p.partition) for consumer in self.open for p in consumer.assignment()]
        assert len(set(every)) == len(every)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "it did not come about"
            self.poll()


def create(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(4 * PARTITIONS):
        producer.produce(topic, b"x", partition=number % PARTITIONS)
    assert producer.flush(30) == 0


@pytest.fixture(scope="module")
def quick() -> Iterator[str]:
    """A broker whose members of consumer groups heartbeat every 200 ms and are dead after 2 s."""
    with EmbeddedBroker(
        group_consumer_heartbeat_interval_ms=200,
        group_consumer_min_heartbeat_interval_ms=200,
        group_consumer_session_timeout_ms=2_000,
        group_consumer_min_session_timeout_ms=2_000,
        group_initial_rebalance_delay_ms=0,
    ) as broker:
        yield broker.bootstrap


@pytest.fixture
def members(quick: str, prefix: str) -> Iterator[Members]:
    create(quick, prefix)
    with ExitStack() as stack:
        yield Members(quick, f"{prefix}g", stack)


def test_two_members_share_a_topic_on_every_engine(engine: Engine, prefix: str) -> None:
    create(engine.bootstrap, prefix)
    with ExitStack() as stack:
        members = Members(engine.bootstrap, f"{prefix}g", stack)
        members.add(prefix)
        members.add(prefix)
        members.until_shares_are(2, 2)
        members.until(lambda: len(set(members.read)) == 4 * PARTITIONS)


def test_many_members_come_and_go_and_every_record_is_read(members: Members, prefix: str) -> None:
    first = members.add(prefix)
    for _ in range(3):
        members.add(prefix)
    members.until_shares_are(1, 1, 1, 1)
    members.add(prefix)
    members.until_shares_are(0, 1, 1, 1, 1)
    members.close(first)
    members.close(members.open[0])
    members.until_shares_are(1, 1, 2)
    members.until(lambda: len(set(members.read)) == 4 * PARTITIONS)


def test_the_partitions_of_a_member_that_falls_silent_go_to_the_others(members: Members, prefix: str) -> None:
    # Beyond max.poll.interval.ms librdkafka leaves; what stands still here is the heartbeat of a raw member.
    from logqueue.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
    from tests.broker.wire import Wire

    members.add(prefix)
    members.until_shares_are(4)
    with Wire(members.bootstrap) as wire:
        joining = ConsumerGroupHeartbeatRequest(
            group_id=members.group,
            member_id="silent",
            rebalance_timeout_ms=60_000,
            subscribed_topic_names=[prefix],
            topic_partitions=[],
        )
        assert wire.call(1, joining).error_code == 0
        members.until_shares_are(2)
        members.until_shares_are(4)


def test_a_static_member_that_restarts_gets_its_partitions_back_and_nobody_else_notices(
    members: Members, prefix: str
) -> None:
    static = members.add(prefix, group_instance_id="one")
    other = members.add(prefix)
    members.until_shares_are(2, 2)
    before = {p.partition for p in static.assignment()}
    kept = {p.partition for p in other.assignment()}
    members.close(static)
    restarted = members.add(prefix, group_instance_id="one")
    members.until(lambda: {p.partition for p in restarted.assignment()} == before)
    assert {p.partition for p in other.assignment()} == kept


def test_a_pattern_is_resolved_by_the_broker_and_follows_new_topics(members: Members, prefix: str) -> None:
    members.add(f"^{prefix}.*")
    members.until_shares_are(4)


def test_a_group_of_classic_consumers_is_upgraded_one_by_one_and_back(members: Members, prefix: str) -> None:
    # Not cooperative-sticky: librdkafka's puts data of its own into assignments, which no upgrade could carry over.
    classic: dict[str, Any] = {"group_protocol": "classic", "heartbeat_interval_ms": 200}
    first, second = members.add(prefix, **classic), members.add(prefix, **classic)
    members.until_shares_are(2, 2)
    members.close(first)
    modern = members.add(prefix)
    members.until_shares_are(2, 2)
    members.close(second)
    members.until_shares_are(4)
    back = members.add(prefix, **classic)
    members.until_shares_are(2, 2)
    members.close(modern)
    members.until_shares_are(4)
    assert len(back.assignment()) == 4
    members.until(lambda: len(set(members.read)) == 4 * PARTITIONS)


def test_classic_members_rebalance_cooperatively_and_static_ones_come_back_to_their_partitions(
    members: Members, prefix: str
) -> None:
    cooperative = {
        "group_protocol": "classic",
        "partition_assignment_strategy": "cooperative-sticky",
        "heartbeat_interval_ms": 200,
    }
    first = members.add(prefix, group_instance_id="one", **cooperative)
    members.until_shares_are(4)
    second = members.add(prefix, group_instance_id="two", **cooperative)
    members.until_shares_are(2, 2)
    before = {p.partition for p in first.assignment()}
    kept = {p.partition for p in second.assignment()}
    members.close(first)  # a static member does not leave: its place is kept for its session
    restarted = members.add(prefix, group_instance_id="one", **cooperative)
    members.until(lambda: {p.partition for p in restarted.assignment()} == before)
    assert {p.partition for p in second.assignment()} == kept
    members.until(lambda: len(set(members.read)) == 4 * PARTITIONS)
