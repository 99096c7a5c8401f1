"""Transactions and KIP-848 groups in a life: their requests, and the steps made of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from logqueue.errors import ErrorCode
from logqueue.ids import TopicPartition
from logqueue.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from logqueue.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest, AddPartitionsToTxnTopic
from logqueue.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest, TopicPartitions
from logqueue.protocol.messages.end_txn import EndTxnRequest
from logqueue.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from tests.broker.wire import produce_request
from tests.crash import promises as p
from tests.crash.client import Client, Refused, accept

if TYPE_CHECKING:
    from tests.crash.life import Life

IDS = ("tx-a", "tx-b")
OFFSETS_GROUP = "tx-group"
MODERN_GROUP = "modern"
MODERN_MEMBER = "modern-member"
RETRIES = 100
RETRY_SECONDS = 0.01
COMMIT_SHARE = 0.7
LEAVE_OPEN_SHARE = 0.15

# Transaction version 2 (KIP-890) adds partitions implicitly and changes the epoch with every transaction.
OLD = {"produce": 11, "offsets": 3, "end": 4}
NEW = {"produce": 12, "offsets": 5, "end": 5}


def patiently(call: Callable[[], Any]) -> Any:
    """Ask again while the coordinator is busy with what came before. Raises Refused when it never ends."""
    for _ in range(RETRIES):
        try:
            return call()
        except Refused as error:
            if error.code is not ErrorCode.CONCURRENT_TRANSACTIONS:
                raise
            time.sleep(RETRY_SECONDS)
    return call()


@dataclass
class Producer:
    """One transactional id as its client knows it."""

    transactional_id: str
    producer_id: int
    epoch: int
    sequences: dict[TopicPartition, int] = field(default_factory=dict)
    open_transaction: int = 0


class Transactions:
    """The transactional producers of a life."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._producers: dict[str, Producer] = {}
        self._number = 0

    @property
    def _client(self) -> Client:
        return self._life.client

    def step(self) -> None:
        """One transaction with records, perhaps with offsets; ended one way or the other, or left open."""
        life, random = self._life, self._life.random
        producer = self._producer(random.choice(IDS))
        self._number += 1
        number = producer.open_transaction = self._number
        versions = random.choice((OLD, NEW))
        life.tell(p.Beginning(number, producer.transactional_id))
        try:
            for _ in range(random.randint(1, 3)):
                self._send(producer, number, versions)
            if random.random() < 0.4:
                self._commit_offset(producer, number, versions)
            if random.random() >= LEAVE_OPEN_SHARE:
                self._end(producer, number, versions, commit=random.random() < COMMIT_SHARE)
        except Refused:
            self._producers.pop(producer.transactional_id, None)
            raise

    def forget(self, topic: str) -> None:
        """A topic was deleted: in one of that name producers begin at sequence 0."""
        for producer in self._producers.values():
            producer.sequences = {each: n for each, n in producer.sequences.items() if each.topic != topic}

    def _producer(self, transactional_id: str) -> Producer:
        """The producer of an id. One that left a transaction open is begun anew, which aborts it."""
        life = self._life
        producer = self._producers.get(transactional_id)
        if producer is not None and not producer.open_transaction:
            return producer
        left_open = [n for n, t in life.promises.transactions.items() if t.transactional_id == transactional_id]
        producer_id, epoch = patiently(lambda: self._client.init_producer(transactional_id))
        life.tell(p.GivenProducerId(producer_id, epoch, transactional_id))
        for number in left_open:
            if not life.promises.transactions[number].is_ended:
                life.tell(p.Fenced(number))
        producer = self._producers[transactional_id] = Producer(transactional_id, producer_id, epoch)
        return producer

    def _send(self, producer: Producer, number: int, versions: dict[str, int]) -> None:
        life = self._life
        partition = life.any_partition()
        if versions is OLD:
            self._add_partition(producer, partition)
        batch = life.batch(
            partition,
            producer=(producer.producer_id, producer.epoch),
            transaction=number,
            sequences=producer.sequences,
        )
        sending = len(life.promises.log(partition).sent)
        request = produce_request(partition.topic, batch, partition=partition.partition)
        request.transactional_id = producer.transactional_id

        def produce() -> int:
            answer = self._client.wire.call(versions["produce"], request).responses[0].partition_responses[0]
            base_offset: int = accept("a produce in a transaction", answer).base_offset
            return base_offset

        try:
            base_offset = patiently(produce)
        except Refused:
            life.tell(p.Refusal(partition, sending))
            raise
        life.tell(p.Acked(partition, sending, base_offset))

    def _add_partition(self, producer: Producer, partition: TopicPartition) -> None:
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=producer.transactional_id,
            v3_and_below_producer_id=producer.producer_id,
            v3_and_below_producer_epoch=producer.epoch,
            v3_and_below_topics=[AddPartitionsToTxnTopic(name=partition.topic, partitions=[partition.partition])],
        )

        def add() -> None:
            answer = self._client.wire.call(3, request).results_by_topic_v3_and_below[0].results_by_partition[0]
            if answer.partition_error_code:
                raise Refused("AddPartitionsToTxn", answer.partition_error_code)

        patiently(add)

    def _commit_offset(self, producer: Producer, number: int, versions: dict[str, int]) -> None:
        life = self._life
        partition = TopicPartition("plain", 0)
        offset = life.next_number()
        if versions is OLD:
            adding = AddOffsetsToTxnRequest(
                transactional_id=producer.transactional_id,
                producer_id=producer.producer_id,
                producer_epoch=producer.epoch,
                group_id=OFFSETS_GROUP,
            )
            patiently(lambda: accept("AddOffsetsToTxn", self._client.wire.call(3, adding)))
        life.tell(p.Committing(OFFSETS_GROUP, partition, offset, number))
        wanted = TxnOffsetCommitRequestPartition(
            partition_index=partition.partition, committed_offset=offset, committed_metadata=f"m{offset}"
        )
        request = TxnOffsetCommitRequest(
            transactional_id=producer.transactional_id,
            group_id=OFFSETS_GROUP,
            producer_id=producer.producer_id,
            producer_epoch=producer.epoch,
            topics=[TxnOffsetCommitRequestTopic(name=partition.topic, partitions=[wanted])],
        )
        patiently(
            lambda: accept(
                "TxnOffsetCommit", self._client.wire.call(versions["offsets"], request).topics[0].partitions[0]
            )
        )

    def _end(self, producer: Producer, number: int, versions: dict[str, int], *, commit: bool) -> None:
        life = self._life
        life.tell(p.Ending(number, commit))
        request = EndTxnRequest(
            transactional_id=producer.transactional_id,
            producer_id=producer.producer_id,
            producer_epoch=producer.epoch,
            committed=commit,
        )
        answer = patiently(lambda: accept("EndTxn", self._client.wire.call(versions["end"], request)))
        life.tell(p.Ended(number))
        producer.open_transaction = 0
        if versions is NEW:
            if (answer.producer_id, answer.producer_epoch) != (producer.producer_id, producer.epoch):
                producer.sequences.clear()
            producer.producer_id, producer.epoch = answer.producer_id, answer.producer_epoch
            life.tell(p.GivenProducerId(producer.producer_id, producer.epoch, producer.transactional_id))


def heartbeat(client: Client, member: p.Member | None, topic_ids: dict[str, bytes], partitions: int) -> int:
    """Be the only member of a KIP-848 group that owns all of topic plain; answers the member epoch."""
    owned = [TopicPartitions(topic_id=topic_ids["plain"], partitions=list(range(partitions)))]
    request = ConsumerGroupHeartbeatRequest(
        group_id=MODERN_GROUP,
        member_id=MODERN_MEMBER,
        member_epoch=0 if member is None else member.generation,
        rebalance_timeout_ms=60_000,
        subscribed_topic_names=["plain"],
        topic_partitions=[] if member is None else owned,
    )
    epoch: int = accept("ConsumerGroupHeartbeat", client.wire.call(1, request)).member_epoch
    return epoch
