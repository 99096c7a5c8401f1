"""confluent-kafka (librdkafka), unmodified, against the embedded broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, ConsumerGroupTopicPartitions, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType

from tests.broker.wire import SENT_AT_MS
from tests.engines.embedded import embedded

WAIT_SECONDS = 30


@contextmanager
def consumer(bootstrap: str, group: str, **config: Any) -> Iterator[Consumer]:
    opened = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "heartbeat.interval.ms": 200,
            **{name.replace("_", "."): value for name, value in config.items()},
        }
    )
    try:
        yield opened
    finally:
        opened.close()


def until(condition: Callable[[], bool], act: Callable[[], Any]) -> None:
    """Act until the condition holds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it in time"
        act()


def read(source: Consumer, count: int) -> list[Message]:
    messages: list[Message] = []

    def take() -> None:
        message = source.poll(0.2)
        if message is not None:
            assert message.error() is None, message.error()
            messages.append(message)

    until(lambda: len(messages) >= count, take)
    return messages


def create(bootstrap: str, topic: str, partitions: int, **config: str) -> AdminClient:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(topic, partitions, 1, config=config)]).values():
        future.result(WAIT_SECONDS)
    return admin


def fill(bootstrap: str, topic: str, count: int, *, partitions: int, **config: Any) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", **config})
    for i in range(count):
        producer.produce(topic, str(i).encode(), partition=i % partitions)
    assert producer.flush(WAIT_SECONDS) == 0


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_keys_headers_and_values_come_back_in_every_compression(bootstrap: str, prefix: str, codec: str) -> None:
    sent = [
        (b"k", b"v" * 1000, [("h", b"1"), ("h", b"2")]),
        (None, b"", None),
        (b"tombstone", None, [("empty", b""), ("null", None)]),
    ]
    create(bootstrap, prefix, 1)
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 20})
    for key, value, headers in sent:
        producer.produce(prefix, value, key, headers=headers or [])
    assert producer.flush(WAIT_SECONDS) == 0
    with consumer(bootstrap, prefix) as source:
        source.subscribe([prefix])
        assert [(m.key(), m.value(), m.headers()) for m in read(source, 3)] == sent


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_two_members_share_the_partitions_and_the_second_takes_over_when_the_first_leaves(
    bootstrap: str, prefix: str, strategy: str
) -> None:
    create(bootstrap, prefix, 4)
    fill(bootstrap, prefix, 40, partitions=4)
    with consumer(bootstrap, prefix, partition_assignment_strategy=strategy) as second:
        with consumer(bootstrap, prefix, partition_assignment_strategy=strategy) as first:
            first.subscribe([prefix])
            assert sorted(int(m.value()) for m in read(first, 40)) == list(range(40))
            first.commit(asynchronous=False)
            second.subscribe([prefix])

            def poll_both() -> None:
                assert first.poll(0.05) is None
                assert second.poll(0.05) is None

            until(lambda: len(first.assignment()) == len(second.assignment()) == 2, poll_both)
            assert len({p.partition for p in first.assignment() + second.assignment()}) == 4
        until(lambda: len(second.assignment()) == 4, lambda: second.poll(0.05))
        fill(bootstrap, prefix, 4, partitions=4)
        assert sorted(int(m.value()) for m in read(second, 4)) == list(range(4))


def test_a_static_member_comes_back_without_a_rebalance_of_the_other(bootstrap: str, prefix: str) -> None:
    create(bootstrap, prefix, 2)
    calls: list[str] = []
    with consumer(bootstrap, prefix, group_instance_id="a") as first:
        first.subscribe(
            [prefix], on_assign=lambda *_: calls.append("assign"), on_revoke=lambda *_: calls.append("revoke")
        )
        with consumer(bootstrap, prefix, group_instance_id="b") as second:
            second.subscribe([prefix])
            until(
                lambda: len(first.assignment()) == len(second.assignment()) == 1,
                lambda: (first.poll(0.05), second.poll(0.05)),
            )
        calls.clear()
        with consumer(bootstrap, prefix, group_instance_id="b") as second:
            second.subscribe([prefix])
            until(lambda: len(second.assignment()) == 1, lambda: (first.poll(0.05), second.poll(0.05)))
        assert calls == []


def test_a_group_resumes_from_its_commit_after_the_broker_was_reopened(tmp_path: Path, prefix: str) -> None:
    with embedded(tmp_path) as bootstrap:
        create(bootstrap, prefix, 1)
        fill(bootstrap, prefix, 10, partitions=1)
        with consumer(bootstrap, prefix) as source:
            source.subscribe([prefix])
            read(source, 10)
            source.commit(offsets=[TopicPartition(prefix, 0, 7, metadata="seven")], asynchronous=False)
    with embedded(tmp_path) as bootstrap, consumer(bootstrap, prefix) as source:
        committed = source.committed([TopicPartition(prefix, 0)], timeout=WAIT_SECONDS)[0]
        assert (committed.offset, committed.metadata) == (7, "seven")
        source.subscribe([prefix])
        assert [m.offset() for m in read(source, 3)] == [7, 8, 9]


def test_an_idempotent_producer_writes_each_record_once_in_order(bootstrap: str, prefix: str) -> None:
    create(bootstrap, prefix, 1)
    fill(bootstrap, prefix, 2000, partitions=1, **{"enable.idempotence": True, "batch.num.messages": 50})
    with consumer(bootstrap, prefix) as source:
        source.assign([TopicPartition(prefix, 0, OFFSET_BEGINNING)])
        assert [int(m.value()) for m in read(source, 2000)] == list(range(2000))
        assert source.get_watermark_offsets(TopicPartition(prefix, 0), timeout=WAIT_SECONDS) == (0, 2000)


def test_a_topic_is_created_by_the_first_producer(bootstrap: str, prefix: str) -> None:
    fill(bootstrap, prefix, 1, partitions=1)
    with consumer(bootstrap, prefix) as source:
        source.subscribe([prefix])
        assert [m.value() for m in read(source, 1)] == [b"0"]


def test_offsets_are_found_by_time_and_at_both_ends(bootstrap: str, prefix: str) -> None:
    admin = create(bootstrap, prefix, 1)
    producer = Producer({"bootstrap.servers": bootstrap})
    for i in range(10):
        producer.produce(prefix, b"x", timestamp=SENT_AT_MS + i * 1000)
    assert producer.flush(WAIT_SECONDS) == 0
    position = TopicPartition(prefix, 0)
    with consumer(bootstrap, prefix) as source:
        asked = [TopicPartition(prefix, 0, SENT_AT_MS + 4_500)]
        assert source.offsets_for_times(asked, timeout=WAIT_SECONDS)[0].offset == 5
    for spec, offset in ((OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 10), (OffsetSpec.max_timestamp(), 9)):
        assert admin.list_offsets({position: spec})[position].result(WAIT_SECONDS).offset == offset


def test_the_admin_client_creates_describes_grows_and_deletes_topics(bootstrap: str, prefix: str) -> None:
    admin = create(bootstrap, prefix, 2, **{"retention.ms": "12345"})
    resource = ConfigResource(ResourceType.TOPIC, prefix)
    entries = admin.describe_configs([resource])[resource].result(WAIT_SECONDS)
    assert entries["retention.ms"].value == "12345"
    admin.create_partitions([NewPartitions(prefix, 3)])[prefix].result(WAIT_SECONDS)
    assert len(admin.list_topics(timeout=WAIT_SECONDS).topics[prefix].partitions) == 3
    admin.delete_topics([prefix])[prefix].result(WAIT_SECONDS)
    assert prefix not in admin.list_topics(timeout=WAIT_SECONDS).topics
    cluster = admin.describe_cluster().result(WAIT_SECONDS)
    assert cluster.cluster_id
    assert len(cluster.nodes) == 1


def test_the_admin_client_lists_describes_resets_and_deletes_groups(bootstrap: str, prefix: str) -> None:
    admin = create(bootstrap, prefix, 1)
    with consumer(bootstrap, prefix) as source:
        source.subscribe([prefix])
        until(lambda: len(source.assignment()) == 1, lambda: source.poll(0.05))
        described = admin.describe_consumer_groups([prefix])[prefix].result(WAIT_SECONDS)
        assert described.state.name == "STABLE"
        assert described.members[0].assignment.topic_partitions == [TopicPartition(prefix, 0)]
        listed = admin.list_consumer_groups().result(WAIT_SECONDS)
        assert prefix in {group.group_id for group in listed.valid}
    wanted = ConsumerGroupTopicPartitions(prefix, [TopicPartition(prefix, 0, 4)])
    admin.alter_consumer_group_offsets([wanted])[prefix].result(WAIT_SECONDS)
    asked = ConsumerGroupTopicPartitions(prefix)
    found = admin.list_consumer_group_offsets([asked])[prefix].result(WAIT_SECONDS)
    assert [p.offset for p in found.topic_partitions] == [4]
    admin.delete_consumer_groups([prefix])[prefix].result(WAIT_SECONDS)
    listed = admin.list_consumer_groups().result(WAIT_SECONDS)
    assert prefix not in {group.group_id for group in listed.valid}
