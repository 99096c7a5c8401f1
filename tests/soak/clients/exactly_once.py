"""Consume, transform, produce: every committed record of one topic leads to exactly one record of another (KIP-447)."""

from __future__ import annotations

from itertools import count

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from tests.soak.clients.confluent_producers import API_SECONDS, NO_REBOOTSTRAP, retried, settings
from tests.soak.clients.session import Session

POLL_SECONDS = 0.2
MAX_RECORDS = 40
SESSION_MS = 6_000


def output_of(topic: str) -> str:
    """The topic that is written to."""
    return f"{topic}-out"


def run(session: Session) -> None:
    """Whatever goes wrong, a new pair of clients goes on where the group stands."""
    for incarnation in count(1):
        consumer = Consumer(
            {
                "bootstrap.servers": session.bootstrap,
                "client.id": session.name,
                "group.id": session.role,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": 500,
                "log_level": 0,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 300,
                "socket.timeout.ms": 10_000,
                **NO_REBOOTSTRAP,
            }
        )
        more = {"transactional.id": f"{session.name}.{incarnation}", "transaction.timeout.ms": 10_000}
        producer = Producer(settings(session, **more, **NO_REBOOTSTRAP))
        consumer.subscribe([session.topic])
        try:
            retried(lambda: producer.init_transactions(API_SECONDS))  # noqa: B023 - called at once
            while not session.stopping.is_set():
                messages = [m for m in consumer.consume(MAX_RECORDS, POLL_SECONDS) if m.error() is None]
                if messages:
                    _pass_on(session, consumer, producer, messages)
        except KafkaException:
            pass  # the transaction is aborted by its time limit, and the next pair waits for that (KIP-447)
        finally:
            consumer.close()
        if session.stopping.is_set():
            return


def _pass_on(session: Session, consumer: Consumer, producer: Producer, messages: list[Message]) -> None:
    """One transaction: what came in goes out with the place it came from, and the group moves on."""
    producer.begin_transaction()
    positions: dict[int, int] = {}
    for message in messages:
        partition, offset = message.partition(), message.offset()
        assert partition is not None and offset is not None
        producer.produce(output_of(session.topic), f"{partition}/{offset}".encode(), partition=partition)
        positions[partition] = offset + 1
    offsets = [TopicPartition(session.topic, partition, offset) for partition, offset in positions.items()]
    group = consumer.consumer_group_metadata()
    retried(lambda: producer.send_offsets_to_transaction(offsets, group, API_SECONDS))
    retried(lambda: producer.commit_transaction(API_SECONDS))
