"""kill -9 in the middle of transactions of librdkafka: each is read whole or not at all, live and afterwards."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.broker.test_kill import TIMEOUT_SECONDS, BrokerProcess

TOPIC = "payments"
PARTITIONS = 3
PRODUCERS = 2
KILLS = 3
COMMITS_BETWEEN_KILLS = 15
SEED = 7


class Outcomes:
    """What the producers were told of each transaction: True committed, False aborted, None neither."""

    def __init__(self) -> None:
        self.by_transaction: dict[str, bool | None] = {}
        self.sizes: dict[str, int] = {}
        self._commits = 0
        self._grown = threading.Condition()

    def add(self, name: str, outcome: bool | None) -> None:
        with self._grown:
            self.by_transaction[name] = outcome
            self._commits += outcome is True
            self._grown.notify_all()

    def wait_for_commits(self, more: int) -> None:
        with self._grown:
            wanted = self._commits + more
            assert self._grown.wait_for(lambda: self._commits >= wanted, TIMEOUT_SECONDS)


def produce(bootstrap: str, number: int, outcomes: Outcomes, stopping: threading.Event) -> None:
    chance = random.Random(SEED + number)
    producer: Producer | None = None
    count = 0
    while not stopping.is_set():
        if producer is None:
            config = {"bootstrap.servers": bootstrap, "transactional.id": f"p{number}", "linger.ms": 1, "log_level": 0}
            producer = Producer(config)
            producer.init_transactions(TIMEOUT_SECONDS)
        count += 1
        name = f"{number}-{count}"
        outcomes.sizes[name] = size = chance.randrange(1, 30)
        commit = chance.random() < 0.7
        try:
            producer.begin_transaction()
            for index in range(size):
                producer.produce(TOPIC, f"{name}/{index}".encode(), partition=index % PARTITIONS)
            _end(producer, commit=commit)
            outcomes.add(name, commit)
        except KafkaException as error:
            outcomes.add(name, None)
            if not error.args[0].txn_requires_abort():
                producer = None  # fenced, or its session broke: begin again
                continue
            try:
                _end(producer, commit=False)
                outcomes.add(name, False)
            except KafkaException:
                producer = None


def _end(producer: Producer, *, commit: bool) -> None:
    while True:
        try:
            if commit:
                producer.commit_transaction(TIMEOUT_SECONDS)
            else:
                producer.abort_transaction(TIMEOUT_SECONDS)
            return
        except KafkaException as error:
            if not error.args[0].retriable():
                raise


def consume(bootstrap: str, seen: list[tuple[int, int, str]], stopping: threading.Event | None) -> None:
    """Read committed records from the beginning, to the end or until told to stop and 2 s of silence."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "audit",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "log_level": 0,
        }
    )
    consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
    ended: set[int] = set()
    while stopping is not None or len(ended) < PARTITIONS:
        message = consumer.poll(2)
        if message is None:
            if stopping is not None and stopping.is_set():
                break
        elif message.error() is None:
            seen.append((message.partition(), message.offset(), message.value().decode()))
        elif stopping is None and message.error().name() == "_PARTITION_EOF":
            ended.add(message.partition())
    consumer.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    running = BrokerProcess(tmp_path / "data")
    yield running
    running.kill()


def test_transactions_are_whole_or_absent_after_kills(broker: BrokerProcess) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for future in admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1, config={"segment.ms": "400"})]).values():
        future.result(TIMEOUT_SECONDS)
    outcomes, live, after = Outcomes(), list[tuple[int, int, str]](), list[tuple[int, int, str]]()
    stopping, consumed = threading.Event(), threading.Event()
    threads = [
        threading.Thread(target=produce, args=(broker.bootstrap, number, outcomes, stopping), daemon=True)
        for number in range(PRODUCERS)
    ]
    reader = threading.Thread(target=consume, args=(broker.bootstrap, live, consumed), daemon=True)
    for thread in (*threads, reader):
        thread.start()
    for _ in range(KILLS):
        outcomes.wait_for_commits(COMMITS_BETWEEN_KILLS)
        broker.kill()
        broker.start()
    outcomes.wait_for_commits(COMMITS_BETWEEN_KILLS)
    stopping.set()
    for thread in threads:
        thread.join(TIMEOUT_SECONDS)
    for number in range(PRODUCERS):  # what a producer left open is aborted by its successor
        Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": f"p{number}"}).init_transactions(
            TIMEOUT_SECONDS
        )
    consumed.set()
    reader.join(TIMEOUT_SECONDS)
    consume(broker.bootstrap, after, None)

    assert sorted(live) == sorted(after)
    values = [value for _, _, value in after]
    assert len(values) == len(set(values))
    read: dict[str, set[int]] = defaultdict(set)
    for value in values:
        name, _, index = value.partition("/")
        read[name].add(int(index))
    for name, outcome in outcomes.by_transaction.items():
        whole = set(range(outcomes.sizes[name]))
        assert read[name] in ([whole] if outcome else [set()] if outcome is False else [whole, set()]), (name, outcome)
    for partition in range(PARTITIONS):  # each producer's records in its order
        for number in range(PRODUCERS):
            mine = [v for p, _, v in sorted(after) if p == partition and v.startswith(f"{number}-")]
            order = [tuple(int(part) for part in v.replace("/", "-").split("-")) for v in mine]
            assert order == sorted(order)
    assert sum(outcome is False for outcome in outcomes.by_transaction.values()) > 5
