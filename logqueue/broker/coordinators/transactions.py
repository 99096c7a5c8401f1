"""The shell of the transaction coordinator: what it starts from, and the markers it has written into the logs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from logqueue.broker.coordinators.shell import CoordinatorShell
from logqueue.broker.coordinators.state_log import stored_batches
from logqueue.broker.coordinators.topic_names import TopicNames
from logqueue.broker.partitions.partition import LEADER_EPOCH, Partition
from logqueue.broker.partitions.topics import CONSUMER_OFFSETS, TRANSACTION_STATE
from logqueue.coordination.effects import Producer
from logqueue.errors import ErrorCode, KafkaError
from logqueue.ids import TopicPartition
from logqueue.records.builder import read_records
from logqueue.storage.errors import DataFolderError, InvalidProducerEpoch, TransactionCoordinatorFenced
from logqueue.transaction.coordinator import TransactionCoordinator
from logqueue.transaction.effects import Effect, Verdict, WriteMarkers

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

log = logging.getLogger("logqueue.broker.coordinators.transactions")

COORDINATOR_EPOCH = LEADER_EPOCH  # Kafka's is the leader epoch of the partition that holds the transactional id
MARKER_BYTES = 78  # a control batch with one marker


class Transactions(CoordinatorShell[TransactionCoordinator]):
    """The shell of one TransactionCoordinator."""

    def __init__(self, broker: Broker) -> None:
        present = broker.topics.by_name.get(TRANSACTION_STATE)
        count = broker.config.transaction_state_log_num_partitions if present is None else len(present.partitions)
        # The number of partitions is fixed when the topic is created: an id must be found where it was stored.
        config = broker.config.with_(transaction_state_log_num_partitions=count)
        coordinator = TransactionCoordinator(
            config,
            TopicNames(broker.topics),
            take_producer_id=broker.take_producer_id,
            transaction_version=broker.features.transaction_version,
        )
        super().__init__(broker, coordinator, topic=broker.topics.ensure_transactions_topic)
        self._is_serving = False
        self._replay([] if present is None else present.partitions)
        self.perform(coordinator.on_loaded(self._open_transactions(), token=self._check_recovered, now=self.now()))
        self._is_serving = True

    def verify_or_add(
        self,
        transactional_id: str,
        producer: tuple[int, int],
        partitions: Collection[TopicPartition],
        then: Callable[[ErrorCode], None],
    ) -> None:
        """TV2: have the producer's transaction span the partitions; `then` is told once it does."""
        producer_id, epoch = producer
        self.perform(
            self.coordinator.verify_or_add(transactional_id, producer_id, epoch, partitions, token=then, now=self.now())
        )

    # Start

    def _replay(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            for chunk, position, header in stored_batches(partition):
                if not header.is_control:
                    self._replay_batch(chunk, position, partition)

    def _replay_batch(self, chunk: bytes, position: int, partition: Partition) -> None:
        for record in read_records(chunk, position):
            try:
                self.coordinator.replay(record.key or b"", record.value)
            except KafkaError as error:
                log.error("%s, offset %d holds no transaction record: %s", partition.id, record.offset, error)

    def _open_transactions(self) -> dict[Producer, list[TopicPartition]]:
        """What the logs have open, by producer."""
        found: dict[Producer, list[TopicPartition]] = {}
        for topic in self._broker.topics.by_name.values():
            for partition in topic.partitions:
                producers = partition.log.producer_state
                for producer_id in producers.open_transactions.values():
                    entry = producers.get(producer_id)
                    assert entry is not None
                    found.setdefault(Producer(producer_id, entry.epoch), []).append(partition.id)
        return found

    def _check_recovered(self, error: ErrorCode) -> None:
        self._check_start(KafkaError("the disk has refused a record", code=error))

    # Effects

    def carry_out(self, effect: object) -> Iterable[object]:
        match effect:
            case Verdict(token, error):
                assert callable(token)
                token(error)
                return ()
            case WriteMarkers() as markers:
                return self._write_markers(markers)
        return super().carry_out(effect)

    # Markers

    def _write_markers(self, markers: WriteMarkers) -> list[Effect]:
        """Write what can be written; effects that follow at once, if nothing has to wait for the disk."""
        remaining: list[TopicPartition] = []
        written: list[Partition] = []
        for partition_id in markers.partitions:
            topic = self._broker.topics.by_name.get(partition_id.topic)
            if topic is None or partition_id.partition >= len(topic.partitions):
                continue  # deleted meanwhile: nothing is left that the marker could end
            partition = topic.partitions[partition_id.partition]
            try:
                self._append_marker(partition, markers)
            except (InvalidProducerEpoch, TransactionCoordinatorFenced) as error:
                log.warning("%s needs no marker: %s", partition_id, error)
            except KafkaError as error:
                self._check_start(error)
                log.warning("%s: a marker will be tried again: %s", partition_id, error)
                remaining.append(partition_id)
            else:
                written.append(partition)

        def settle(failure: KafkaError | None) -> list[Effect]:
            if failure is not None:
                remaining.extend(partition.id for partition in written)
            else:
                for partition in written:
                    self.on_marker(partition, markers.producer_id, commit=markers.commit)
            if remaining:
                return self.coordinator.on_markers_failed(markers.ticket, remaining, now=self.now())
            return self.coordinator.on_markers_written(markers.ticket, now=self.now())

        if not self.settle_markers(written, is_owed=True):
            return settle(None)
        self._broker.commit.on_durable(lambda failure: self.perform(settle(failure)))
        return []

    def _check_start(self, error: KafkaError) -> None:
        """Raise DataFolderError if requests may not be served with this: what readers have seen may be missing."""
        if not self._is_serving and not self._broker.was_clean:
            raise DataFolderError(
                f"{self._broker.config.data_dir}: what a crash has left to do in transactions cannot be written "
                f"({error.detail}). Make room on the disk and start again"
            ) from error

    def _append_marker(self, partition: Partition, markers: WriteMarkers) -> None:
        partition.log.append_marker(
            markers.producer_id,
            markers.producer_epoch,
            commit=markers.commit,
            coordinator_epoch=COORDINATOR_EPOCH,
            leader_epoch=LEADER_EPOCH,
            now_ms=self._broker.clock.time_ms(),
            transaction_version=markers.transaction_version,
        )

    def settle_markers(self, written: Iterable[Partition], *, is_owed: bool) -> bool:
        """Have markers that were just appended flushed: True if there is something to wait for.

        An owed one (a start finds what decided it, and writes it again before anything is served) shows at once, others
        are hidden until they are on the disk.
        """
        commit, durable = self._broker.commit, self._broker.config.fsync_acks_all
        waits = False
        for partition, count in Counter(written).items():
            if is_owed and durable:
                commit.show(partition, MARKER_BYTES * count)
                waits = True
            else:
                end = partition.log.log_end_offset
                waits = commit.settle(partition, end - count, end, MARKER_BYTES * count, durable) or waits
        return waits

    def on_marker(self, partition: Partition, producer_id: int, *, commit: bool) -> None:
        """A marker is durable: offsets that waited for it in a group's partition are decided."""
        if partition.id.topic == CONSUMER_OFFSETS:
            self._broker.groups.on_marker(partition.id.partition, producer_id, commit=commit)
