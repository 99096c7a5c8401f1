"""kafka-python 3, unmodified, against the embedded broker."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.broker.wire import SENT_AT_MS
from tests.clients.kafka_python import forgets_sockets
from tests.engines.embedded import embedded

with warnings.catch_warnings():
    # It reads its schemas through importlib.resources.read_text.
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.errors import TopicAlreadyExistsError
    from kafka.structs import OffsetAndMetadata

WAIT_SECONDS = 30


def admin_client(bootstrap: str) -> closing[KafkaAdminClient]:
    return closing(KafkaAdminClient(bootstrap_servers=bootstrap))


def consumer(bootstrap: str, *topics: str, group: str | None = None, **config: Any) -> closing[KafkaConsumer]:
    """A consumer that knows its topics before it joins its group.

    Otherwise it may lead its group before its first metadata has arrived, assign nothing, and never look again
    (kafka-python misses the change when it arrives during the join; Apache Kafka shows the same).
    """
    made = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        heartbeat_interval_ms=200,
        **config,
    )
    for topic in topics:
        assert made.partitions_for_topic(topic)
    if topics:
        made.subscribe(topics)
    return closing(made)


def until(condition: Callable[[], bool], act: Callable[[], Any]) -> None:
    """Act until the condition holds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it in time"
        act()


def read(source: KafkaConsumer, count: int) -> list[Any]:
    records: list[Any] = []
    until(
        lambda: len(records) >= count,
        lambda: [records.extend(batch) for batch in source.poll(timeout_ms=200).values()],
    )
    return records


def create(bootstrap: str, topic: str, partitions: int) -> None:
    with admin_client(bootstrap) as admin:
        admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1}})


def fill(bootstrap: str, topic: str, count: int, *, partitions: int, **config: Any) -> None:
    with closing(KafkaProducer(bootstrap_servers=bootstrap, acks="all", **config)) as producer:
        sends = [producer.send(topic, str(i).encode(), partition=i % partitions) for i in range(count)]
        for send in sends:
            send.get(WAIT_SECONDS)


# Its other codecs need further packages of its own.
@pytest.mark.parametrize("codec", [None, "gzip"])
@forgets_sockets
def test_keys_headers_and_values_come_back_in_every_compression(bootstrap: str, prefix: str, codec: str | None) -> None:
    sent = [
        (b"k", b"v" * 1000, [("h", b"1"), ("h", b"2")]),
        (None, b"", []),
        (b"tombstone", None, [("empty", b"")]),
    ]
    create(bootstrap, prefix, 1)
    with closing(KafkaProducer(bootstrap_servers=bootstrap, compression_type=codec, linger_ms=20)) as producer:
        for key, value, headers in sent:
            producer.send(prefix, value=value, key=key, headers=headers)
        producer.flush(WAIT_SECONDS)
    with consumer(bootstrap, prefix) as source:
        assert [(r.key, r.value, list(r.headers)) for r in read(source, 3)] == sent


@forgets_sockets
def test_two_members_share_the_partitions_and_the_second_takes_over_when_the_first_leaves(
    bootstrap: str, prefix: str
) -> None:
    create(bootstrap, prefix, 4)
    fill(bootstrap, prefix, 40, partitions=4)
    with consumer(bootstrap, prefix, group=prefix) as second:
        with consumer(bootstrap, prefix, group=prefix) as first:
            assert sorted(int(r.value) for r in read(first, 40)) == list(range(40))
            first.commit()
            until(
                lambda: len(first.assignment()) == len(second.assignment()) == 2,
                lambda: (first.poll(timeout_ms=50), second.poll(timeout_ms=50)),
            )
            assert first.assignment() | second.assignment() == {TopicPartition(prefix, p) for p in range(4)}
        until(lambda: len(second.assignment()) == 4, lambda: second.poll(timeout_ms=50))
        fill(bootstrap, prefix, 4, partitions=4)
        assert sorted(int(r.value) for r in read(second, 4)) == list(range(4))


@forgets_sockets
def test_a_group_resumes_from_its_commit_after_the_broker_was_reopened(tmp_path: Path, prefix: str) -> None:
    position = TopicPartition(prefix, 0)
    with embedded(tmp_path) as bootstrap:
        create(bootstrap, prefix, 1)
        fill(bootstrap, prefix, 10, partitions=1)
        with consumer(bootstrap, prefix, group=prefix) as source:
            read(source, 10)
            source.commit({position: OffsetAndMetadata(7, "seven", -1)})
    with embedded(tmp_path) as bootstrap, consumer(bootstrap, prefix, group=prefix) as source:
        assert source.committed(position) == 7
        assert [r.offset for r in read(source, 3)] == [7, 8, 9]


@forgets_sockets
def test_an_idempotent_producer_writes_each_record_once_in_order(bootstrap: str, prefix: str) -> None:
    create(bootstrap, prefix, 1)
    fill(bootstrap, prefix, 500, partitions=1, enable_idempotence=True)
    with consumer(bootstrap, prefix) as source:
        assert [int(r.value) for r in read(source, 500)] == list(range(500))


@forgets_sockets
def test_a_topic_is_created_by_the_first_producer(bootstrap: str, prefix: str) -> None:
    fill(bootstrap, prefix, 1, partitions=1)
    with consumer(bootstrap, prefix) as source:
        assert [r.value for r in read(source, 1)] == [b"0"]


@forgets_sockets
def test_offsets_are_found_by_time_and_at_both_ends(bootstrap: str, prefix: str) -> None:
    create(bootstrap, prefix, 1)
    with closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer:
        for i in range(10):
            producer.send(prefix, b"x", timestamp_ms=SENT_AT_MS + i * 1000).get(WAIT_SECONDS)
    position = TopicPartition(prefix, 0)
    with consumer(bootstrap) as source:
        assert source.beginning_offsets([position]) == {position: 0}
        assert source.end_offsets([position]) == {position: 10}
        found = source.offsets_for_times({position: SENT_AT_MS + 4_500})[position]
        assert (found.offset, found.timestamp) == (5, SENT_AT_MS + 5_000)
        assert source.offsets_for_times({position: SENT_AT_MS + 10_000}) == {position: None}


@forgets_sockets
def test_the_admin_client_creates_describes_grows_and_deletes_topics(bootstrap: str, prefix: str) -> None:
    with admin_client(bootstrap) as admin:
        admin.create_topics(
            {prefix: {"num_partitions": 2, "replication_factor": 1, "configs": {"retention.ms": "12345"}}}
        )
        with pytest.raises(TopicAlreadyExistsError):
            admin.create_topics({prefix: {"num_partitions": 2, "replication_factor": 1}})
        admin.create_partitions({prefix: 3})
        assert len(admin.describe_topics([prefix])[0]["partitions"]) == 3
        assert prefix in admin.list_topics()
        admin.delete_topics([prefix])
        assert prefix not in admin.list_topics()
        assert len(admin.describe_cluster()["brokers"]) == 1


@forgets_sockets
def test_the_admin_client_lists_describes_resets_and_deletes_groups(bootstrap: str, prefix: str) -> None:
    position = TopicPartition(prefix, 0)
    create(bootstrap, prefix, 1)
    with admin_client(bootstrap) as admin:
        with consumer(bootstrap, prefix, group=prefix) as source:
            until(lambda: len(source.assignment()) == 1, lambda: source.poll(timeout_ms=50))
            described = admin.describe_groups([prefix])[prefix]
            assert (described["group_state"], len(described["members"])) == ("Stable", 1)
            assert prefix in {group["group_id"] for group in admin.list_groups()}
        admin.alter_group_offsets(prefix, {position: OffsetAndMetadata(4, "four", -1)})
        found = admin.list_group_offsets({prefix: None})[prefix][position]
        assert (found.offset, found.metadata) == (4, "four")
        admin.delete_group_offsets(prefix, [position])
        assert admin.list_group_offsets({prefix: None})[prefix] == {}
        admin.delete_groups([prefix])
        assert prefix not in {group["group_id"] for group in admin.list_groups()}
