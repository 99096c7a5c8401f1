"""Producers on librdkafka: an idempotent one, and one that sends in transactions."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tests.soak.clients.session import Session
from tests.soak.history import Ack, Send, TransactionEnd, now

FLUSH_SECONDS = 60.0
API_SECONDS = 30.0
MAX_RECORDS = 8
"""Of one transaction."""
ABORT_SHARE = 0.25
NO_REBOOTSTRAP = {"metadata.recovery.strategy": "none"}
"""librdkafka 2.16 hangs otherwise, and not because of the broker.

When all its connections are down it starts from the bootstrap list again (KIP-899) and gives up the handle of every
broker it knew, but its cache of group coordinators keeps that handle. A TxnOffsetCommit that has to be sent again then
waits for a handle that never connects; it asks for the coordinator again only when some connection changes state. On a
calm broker that is never: the library is connected, sends nothing but Metadata, logs `Handle is terminating in state
TRY_CONNECT`, and send_offsets_to_transaction does not even keep its timeout.

Apache Kafka 4.2.1, never stopped, behind a proxy that cut all connections 35 times: 4 of 4 such clients hung for good
(99 s in a call with a limit of 10 s). With this setting none did, neither there nor in 40 kills of this broker.

A consumer may wait for such a handle of its group's coordinator from its first seconds on: connected to the broker, its
coordinator's thread idle, never a JoinGroup. Two runs of ninety that began with trouble ended so.
"""


def settings(session: Session, **more: Any) -> dict[str, Any]:
    return {
        "bootstrap.servers": session.bootstrap,
        "client.id": session.name,
        "enable.idempotence": True,
        "linger.ms": 2,
        "log_level": 0,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 300,
        "retry.backoff.ms": 20,
        "retry.backoff.max.ms": 300,
        "topic.metadata.refresh.interval.ms": 2000,
        "socket.timeout.ms": 10_000,
        **more,
    }


class _Sender:
    """Hands records to one producer and writes down what it says of them; `has_failed`: one was not delivered."""

    def __init__(self, session: Session, producer: Producer, client: str) -> None:
        self._session = session
        self._producer = producer
        self._client = client
        self._numbers = count(1)
        self.has_failed = False

    def send(self, transaction: str | None = None) -> None:
        number = next(self._numbers)
        value = f"{self._client}-{number}"
        partition = self._session.any_partition()
        self._session.recorder.add(
            Send(
                at=now(),
                client=self._client,
                partition=partition,
                value=value,
                number=number,
                transaction=transaction,
            )
        )
        while True:
            try:
                self._producer.produce(
                    self._session.topic, value.encode(), partition=partition, on_delivery=self._delivered
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.has_failed = True
        else:
            value, partition, offset = message.value(), message.partition(), message.offset()
            assert value is not None and partition is not None and offset is not None
            self._session.recorder.add(
                Ack(at=now(), client=self._client, value=value.decode(), partition=partition, offset=offset)
            )


def run_idempotent(session: Session) -> None:
    """Send until asked to stop; a fatal error ends this producer and begins another."""
    for incarnation in count(1):
        errors: list[KafkaError] = []
        producer = Producer(settings(session, error_cb=errors.append))
        sender = _Sender(session, producer, f"{session.name}.{incarnation}")
        while not session.stopping.is_set() and not any(error.fatal() for error in errors):
            sender.send()
            producer.poll(0)
            session.pace()
        producer.flush(FLUSH_SECONDS)
        if session.stopping.is_set():
            return


def run_transactional(session: Session) -> None:
    """Transaction after transaction, some aborted; a producer whose transaction failed makes room for a new one.

    librdkafka 2.16 loses records otherwise, and not because of the broker. What waits to be sent again when a
    transaction is aborted it drops, and gives its sequences to the records after it, in the same epoch. If the broker
    has what was dropped, a connection that went with the answer is enough, it takes the next transaction's records for
    those: acknowledged, committed, and not there. Apache Kafka 4.2.1 behind a proxy that swallowed answers for 20 ms
    and then cut all connections lost a record the same way, at one cut of 650 clients.
    """
    numbers = count(1)
    for incarnation in count(1):
        producer = Producer(
            settings(
                session,
                **{"transactional.id": session.role, "transaction.timeout.ms": 10_000},
            )
        )
        try:
            producer.init_transactions(API_SECONDS)
        except KafkaException as error:
            if session.stopping.is_set() and not error.args[0].retriable():
                return
            continue
        sender = _Sender(session, producer, f"{session.name}.{incarnation}")
        while not session.stopping.is_set():
            if not _transaction(session, producer, sender, f"{session.name}.t{next(numbers)}"):
                break
        else:
            return


def _transaction(session: Session, producer: Producer, sender: _Sender, name: str) -> bool:
    """One transaction; False if the producer is of no more use."""
    committed: bool | None = None
    try:
        producer.begin_transaction()
        for _ in range(session.random.randint(1, MAX_RECORDS)):
            sender.send(name)
            producer.poll(0)
            session.pace()
        if session.random.random() < ABORT_SHARE:
            # Until the answer is there nobody knows; a producer that dies here leaves it to the time limit.
            assert not producer.flush(FLUSH_SECONDS), "the broker does not come back"
            retried(lambda: producer.abort_transaction(API_SECONDS))
            committed = False
        else:
            retried(lambda: producer.commit_transaction(API_SECONDS))
            committed = True
    except KafkaException as error:
        cause = error.args[0]
        if not cause.fatal() and cause.txn_requires_abort():
            with suppress(KafkaException):
                retried(lambda: producer.abort_transaction(API_SECONDS))
                committed = False
        return False
    finally:
        session.recorder.add(TransactionEnd(at=now(), client=session.name, transaction=name, committed=committed))
    return not sender.has_failed


def retried(call: Any) -> None:
    """Ask again while librdkafka says that it makes sense."""
    for _ in range(5):
        try:
            call()
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
        else:
            return
    call()
