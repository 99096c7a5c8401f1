"""A broker's life: a seeded random session of everything that leaves traces on a disk, with a record of every promise.

The life goes through the wire like any client's. What it is about to ask and what it was promised is told to
`on_event`, in order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from logqueue.errors import LogqueueError
from logqueue.ids import TopicPartition
from logqueue.records import Record, build_batch
from logqueue.storage import Environment
from logqueue.storage.file_system import FileSystem
from logqueue.testing import EmbeddedBroker
from tests.crash import promises as p
from tests.crash.client import Client, Refused
from tests.crash.transacting import MODERN_GROUP, MODERN_MEMBER, Transactions, heartbeat

NOW = time.time_ns() // 1_000_000
"""Not long ago: producers whose records are old are forgotten."""
ROLL = "internal.segment.bytes"
SMALL = {ROLL: "900", "index.interval.bytes": "150"}
COMPACTED = {"cleanup.policy": "compact", ROLL: "1000", "min.cleanable.dirty.ratio": "0.01"}
SETTINGS = [(ROLL, "1200"), (ROLL, "2000"), ("retention.ms", "-1"), ("index.interval.bytes", "20")]
KEYS = 4
GROUPS = ("simple", "classic")
BROKER: dict[str, Any] = {
    "offsets_topic_num_partitions": 2,
    "auto_create_topics_enable": False,
    "log_flush_offset_checkpoint_interval_ms": 0,
    "transaction_state_log_num_partitions": 2,
    "log_cleaner_enable": False,
}
MAX_OPEN_FILES = 4
"""Few, so that files are closed and opened again on the way."""

JOURNAL_BYTES = 1500
"""Little, so that the two files take turns."""


def start_broker(folder: Path, fs: FileSystem) -> EmbeddedBroker:
    environment = Environment(fs=fs, max_open_files=MAX_OPEN_FILES, journal_bytes=JOURNAL_BYTES)
    return EmbeddedBroker(folder, environment=environment, **BROKER).start()


class Life:
    """One session. `run` ends with a clean stop, or raises Refused or LogqueueError when the disk fails."""

    def __init__(
        self,
        folder: Path,
        fs: FileSystem,
        *,
        seed: int,
        on_event: Callable[[p.Event], None] = lambda _: None,
    ) -> None:
        self.promises = p.Promises()
        self.folder = folder
        self.random = Random(seed)
        self.broker: EmbeddedBroker | None = None
        self.client: Client
        self._fs = fs
        self._on_event = on_event
        self._numbers = count(1)
        self._producer: tuple[int, int] | None = None
        self._sequences: dict[TopicPartition, int] = {}
        self._transactions = Transactions(self)
        self._steps: list[tuple[Callable[[], None], int]] = [
            (self.produce, 12),
            (self.produce_idempotent, 10),
            (self.commit, 5),
            (self.join_and_commit, 2),
            (self.create_or_delete, 2),
            (self.alter, 2),
            (self.delete_records, 1),
            (self.restart, 1),
            (self._transactions.step, 6),
            (self.heartbeat_and_commit, 3),
        ]

    def run(self, steps: int) -> None:
        try:
            self.start()
            self.create("plain", 2, SMALL)
            self.create("keyed", 1, COMPACTED, compacted=True)
            self.create("other", 1, {})
            for step in self.random.choices([s for s, _ in self._steps], [w for _, w in self._steps], k=steps):
                self.take(step)
            self.stop()
        finally:
            self.abandon()

    def take(self, step: Callable[[], None]) -> None:
        step()

    def tell(self, event: p.Event) -> None:
        self.promises.apply(event)
        self._on_event(event)

    def start(self) -> None:
        self.broker = start_broker(self.folder, self._fs)
        self.client = Client(self.broker.bootstrap)

    def stop(self) -> None:
        self.client.close()
        broker, self.broker = self.broker, None
        assert broker is not None
        broker.stop()

    def abandon(self) -> None:
        """Let go of what is left when the disk failed."""
        if self.broker is not None:
            try:
                self.stop()
            except LogqueueError:
                pass  # the failure that ended this life

    # Steps

    def heartbeat_and_commit(self) -> None:
        """A member of a KIP-848 group goes on, and commits in its epoch."""
        plain = self.promises.topics["plain"]
        if not plain.is_certain or plain.topic_id is None:
            return
        member = self.promises.members.get(MODERN_GROUP)
        partitions = max(plain.partitions)
        epoch = heartbeat(self.client, member, {"plain": plain.topic_id}, partitions)
        member = p.Member(MODERN_GROUP, MODERN_MEMBER, epoch, is_consumer_protocol=True)
        self.tell(member)
        partition = TopicPartition("plain", 0)
        self.tell(p.Committing(MODERN_GROUP, partition, self.next_number()))
        offset = self._last_commit(MODERN_GROUP, partition)
        self.client.commit(MODERN_GROUP, partition, offset, member_id=member.member_id, generation=epoch, version=9)
        self.tell(p.Committed(MODERN_GROUP, partition))

    def restart(self) -> None:
        self.stop()
        self.start()

    def create(self, name: str, partitions: int, properties: dict[str, str], *, compacted: bool = False) -> None:
        self.tell(p.Creating(name, partitions, properties, compacted))
        self.tell(p.Created(name, self.client.create_topic(name, partitions, properties)))

    def create_or_delete(self) -> None:
        if "other" not in self.promises.topics:
            self.create("other", self.random.randint(1, 2), self.random.choice([{}, SMALL]))
            return
        self.tell(p.Deleting("other"))
        self.client.delete_topic("other")
        self.tell(p.Deleted("other"))
        self._sequences = {each: n for each, n in self._sequences.items() if each.topic != "other"}
        self._transactions.forget("other")

    def alter(self) -> None:
        if self.random.random() < 0.3:
            self._grow()
            return
        key, value = self.random.choice(SETTINGS)
        self.tell(p.Altering("plain", key, value))
        self.client.alter_topic("plain", key, value)
        self.tell(p.Altered("plain"))

    def _grow(self) -> None:
        partitions = max(self.promises.topics["plain"].partitions) + 1
        if partitions <= 4:
            self.tell(p.Growing("plain", partitions))
            self.client.grow_topic("plain", partitions)
            self.tell(p.Grown("plain"))

    def delete_records(self) -> None:
        partition = TopicPartition("plain", 0)
        offset = self.random.randint(0, self.client.offset(partition, -1))
        self.tell(p.DeletingRecords(partition, offset))
        self.client.delete_records(partition, offset)

    def produce(self) -> None:
        """A few batches at once, with different promises."""
        asked = []
        for _ in range(self.random.randint(1, 3)):
            partition = self.any_partition()
            acks = self.random.choice((-1, -1, 1))
            batch = self.batch(partition)
            self.client.send_produce(partition, batch, acks=acks)
            asked.append((partition, len(self.promises.log(partition).sent), acks))
        self._receive(asked)

    def produce_idempotent(self) -> None:
        if self._producer is None or self.random.random() < 0.05:
            self._producer = self.client.init_producer()
            self._sequences.clear()
            self.tell(p.GivenProducerId(*self._producer))
        asked = []
        for _ in range(self.random.randint(1, 2)):
            partition = TopicPartition("plain", self.random.randint(0, 1))
            batch = self.batch(partition, producer=self._producer)
            self.client.send_produce(partition, batch)
            asked.append((partition, len(self.promises.log(partition).sent), -1))
        self._receive(asked)

    def next_number(self) -> int:
        return next(self._numbers)

    def any_partition(self) -> TopicPartition:
        topics = [topic for topic in self.promises.topics.values() if topic.is_certain]
        topic = self.random.choice(topics)
        return TopicPartition(topic.name, self.random.randrange(min(topic.partitions)))

    def batch(
        self,
        partition: TopicPartition,
        *,
        producer: tuple[int, int] = (-1, -1),
        transaction: int = 0,
        sequences: dict[TopicPartition, int] | None = None,
    ) -> bytes:
        """A batch of new records, told as being sent; `sequences` are the producer's next ones."""
        sequences = self._sequences if sequences is None else sequences
        number = self.next_number()
        key = b"k%d" % self.random.randrange(KEYS) if self.promises.topics[partition.topic].compacted else None
        size = self.random.choice((5, 40, 40, 100, 180))
        values = [b"%d.%d " % (number, index) + b"v" * size for index in range(self.random.randint(1, 3))]
        sequence = -1
        if producer[0] >= 0:
            sequence = sequences.get(partition, 0)
            sequences[partition] = sequence + len(values)
        self.tell(p.Sending(partition, tuple(values), key, *producer, sequence, transaction))
        return bytes(
            build_batch(
                [Record(timestamp_ms=NOW + number, key=key, value=value) for value in values],
                producer_id=producer[0],
                producer_epoch=producer[1],
                base_sequence=sequence,
                transactional=transaction > 0,
            )
        )

    def _receive(self, asked: list[tuple[TopicPartition, int, int]]) -> None:
        """Take every answer; the first refusal is raised when all are there."""
        refused: Refused | None = None
        for partition, number, acks in asked:
            try:
                base_offset = self.client.receive_produced()
            except Refused as error:
                refused = refused or error
                self.tell(p.Refusal(partition, number))
                self._producer = None  # its sequence numbers have a gap now
                continue
            if acks == -1:
                self.tell(p.Acked(partition, number, base_offset))
        if refused is not None:
            raise refused

    def commit(self) -> None:
        partition = self.any_partition()
        self.tell(p.Committing("simple", partition, next(self._numbers)))
        self.client.commit("simple", partition, self._last_commit("simple", partition))
        self.tell(p.Committed("simple", partition))

    def _last_commit(self, group: str, partition: TopicPartition) -> int:
        return self.promises.offsets[group, partition].commits[-1].offset

    def join_and_commit(self) -> None:
        member = self.promises.members.get("classic")
        if member is None:
            member = p.Member("classic", *self.client.join("classic"))
            self.tell(member)
        partition = TopicPartition("plain", 0)
        self.tell(p.Committing("classic", partition, next(self._numbers)))
        self.client.commit(
            "classic",
            partition,
            self._last_commit("classic", partition),
            member_id=member.member_id,
            generation=member.generation,
        )
        self.tell(p.Committed("classic", partition))
