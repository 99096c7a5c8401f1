"""The shell of the consumer-group coordinator: what it starts from, and what else of the broker concerns it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from logqueue.broker.coordinators.shell import CoordinatorShell
from logqueue.broker.coordinators.state_log import stored_batches
from logqueue.broker.coordinators.topic_names import TopicNames
from logqueue.broker.network.session import Slot
from logqueue.broker.partitions.partition import Partition
from logqueue.broker.partitions.topics import CONSUMER_OFFSETS
from logqueue.broker.settings.dynamic import GROUP
from logqueue.config.group import GroupConfig
from logqueue.coordination.effects import Now, Producer
from logqueue.errors import ErrorCode, KafkaError
from logqueue.group.coordinator import GroupCoordinator
from logqueue.records.batch import BatchHeader
from logqueue.records.builder import read_records
from logqueue.records.control import ControlType, parse_marker

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

log = logging.getLogger("logqueue.broker.coordinators.groups")


class Groups(CoordinatorShell[GroupCoordinator]):
    """The shell of one GroupCoordinator."""

    def __init__(self, broker: Broker) -> None:
        present = broker.topics.by_name.get(CONSUMER_OFFSETS)
        count = broker.config.offsets_topic_num_partitions if present is None else len(present.partitions)
        # The number of partitions is fixed when the topic is created: a group must be found where it was stored.
        config = broker.config.with_(offsets_topic_num_partitions=count)
        coordinator = GroupCoordinator(config, TopicNames(broker.topics), group_config=self._config_of, on_bug=_report)
        super().__init__(broker, coordinator, topic=broker.topics.ensure_offsets_topic)
        self._defaults = GroupConfig.defaults(broker.config)
        broker.on_reconfigured.append(self._follow_settings)
        self._replay([] if present is None else present.partitions)
        self.perform(coordinator.on_loaded(now=self.now()))

    def commit_in_transaction(self, request: Any, verified: ErrorCode, slot: Slot) -> None:
        """TxnOffsetCommit, once the transaction coordinator has been asked."""
        self.serve(self.coordinator.commit_offsets_in_transaction, request, slot, verified=verified)

    def on_marker(self, partition: int, producer_id: int, *, commit: bool) -> None:
        """A transaction's marker is durable in a partition of `__consumer_offsets`."""
        self.coordinator.on_marker(partition, producer_id, commit=commit)

    def on_topic_deleted(self, name: str) -> None:
        """Committed offsets of a deleted topic go with it."""
        self.perform(self.coordinator.on_topics_deleted([name], now=self.now()))

    def _config_of(self, group_id: str) -> GroupConfig:
        """Settings of a group; most groups have none of their own, and heartbeats ask often."""
        broker = self._broker
        return broker.group_config(group_id) if broker.dynamic.of(GROUP, group_id) else self._defaults

    def _follow_settings(self) -> None:
        self._defaults = GroupConfig.defaults(self._broker.config)

    def _replay(self, partitions: Iterable[Partition]) -> None:
        now = self.now()
        for partition in partitions:
            for chunk, position, header in stored_batches(partition):
                if header.is_control:
                    self._replay_marker(chunk, position, header, partition)
                else:
                    self._replay_batch(chunk, position, header, now, partition)

    def _replay_marker(self, chunk: bytes, position: int, header: BatchHeader, partition: Partition) -> None:
        for record in read_records(chunk, position, header):
            marker = parse_marker(record)
            if marker is not None:
                commit = marker.control_type is ControlType.COMMIT
                self.coordinator.on_marker(partition.id.partition, header.producer_id, commit=commit)

    def _replay_batch(self, chunk: bytes, position: int, header: BatchHeader, now: Now, partition: Partition) -> None:
        producer = Producer(header.producer_id, header.producer_epoch) if header.is_transactional else None
        for record in read_records(chunk, position, header):
            try:
                self.coordinator.replay(record.key or b"", record.value, now=now, producer=producer)
            except KafkaError as error:
                log.error("%s, offset %d holds no group record: %s", partition.id, record.offset, error)


def _report(error: Exception) -> None:
    log.error("a request to a group failed in an unforeseen way; please report this", exc_info=error)
