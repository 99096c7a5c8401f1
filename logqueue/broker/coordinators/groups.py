"""Runs the consumer-group coordinator: requests in, effects out, records into `__consumer_offsets`, timers.

The coordinator decides and keeps the state; here its appends become durable, its replies leave and its deadlines come.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from logqueue.broker.coordinators.state_log import stored_batches
from logqueue.broker.network.session import Slot
from logqueue.broker.partitions.partition import LEADER_EPOCH, Partition
from logqueue.broker.partitions.topics import CONSUMER_OFFSETS, Topics
from logqueue.broker.settings.dynamic import GROUP
from logqueue.config.group import GroupConfig
from logqueue.coordination.effects import Caller, Now, Reply
from logqueue.errors import ErrorCode, KafkaError
from logqueue.group.coordinator import GroupCoordinator
from logqueue.group.effects import Append, Effect, Producer
from logqueue.records.batch import BatchHeader
from logqueue.records.builder import build_batch, read_records
from logqueue.records.control import ControlType, parse_marker
from logqueue.records.record import Record
from logqueue.storage.results import Origin

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

log = logging.getLogger("logqueue.broker.coordinators.groups")


class TopicNames:
    """What the coordinator may ask about topics."""

    __slots__ = ("_topics",)

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def has_partition(self, topic: str, partition: int) -> bool:
        found = self._topics.by_name.get(topic)
        return found is not None and 0 <= partition < len(found.partitions)

    def name_of(self, topic_id: bytes) -> str | None:
        found = self._topics.by_id.get(topic_id)
        return None if found is None else found.name

    def id_of(self, topic: str) -> bytes | None:
        found = self._topics.by_name.get(topic)
        return None if found is None else found.id

    def partition_count(self, topic: str) -> int:
        found = self._topics.by_name.get(topic)
        return 0 if found is None else len(found.partitions)

    def names(self) -> Iterable[str]:
        return self._topics.by_name.keys()

    @property
    def version(self) -> int:
        return self._topics.version


class Groups:
    """The shell of one GroupCoordinator."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        present = broker.topics.by_name.get(CONSUMER_OFFSETS)
        count = broker.config.offsets_topic_num_partitions if present is None else len(present.partitions)
        # The number of partitions is fixed when the topic is created: a group must be found where it was stored.
        config = replace(broker.config, offsets_topic_num_partitions=count)
        self.coordinator = GroupCoordinator(config, TopicNames(broker.topics), group_config=self._config_of)
        self._defaults = GroupConfig.defaults(broker.config)
        broker.on_reconfigured.append(self._follow_settings)
        self._timer: GroupTimer | None = None
        self._replay([] if present is None else present.partitions)
        self._perform(self.coordinator.on_loaded(now=self._now()))

    def serve(
        self,
        method: Callable[..., list[Effect]],
        request: Any,
        slot: Slot,
        *,
        sees: Callable[[str], bool] | None = None,
    ) -> None:
        """Run one request through the coordinator; its answer comes out of the effects, now or later.

        `sees` tells the topics its sender may know of; None: all.
        """
        caller = Caller(
            token=slot,
            version=slot.api_version,
            client_id=slot.header.client_id or "",
            host=f"/{slot.session.peer_host}",
            sees=sees,
        )
        self._perform(method(request, caller=caller, now=self._now()))

    def commit_in_transaction(self, request: Any, verified: ErrorCode, slot: Slot) -> None:
        """TxnOffsetCommit, once the transaction coordinator has been asked."""
        self.serve(partial(self.coordinator.commit_offsets_in_transaction, verified=verified), request, slot)

    def on_marker(self, partition: int, producer_id: int, *, commit: bool) -> None:
        """A transaction's marker is durable in a partition of `__consumer_offsets`."""
        self.coordinator.on_marker(partition, producer_id, commit=commit)

    def on_topic_deleted(self, name: str) -> None:
        """Committed offsets of a deleted topic go with it."""
        self._perform(self.coordinator.on_topics_deleted([name], now=self._now()))

    def on_deadline(self) -> None:
        """The time that the coordinator named has come."""
        self._perform(self.coordinator.on_deadline(now=self._now()))

    def _config_of(self, group_id: str) -> GroupConfig:
        """Settings of a group; most groups have none of their own, and heartbeats ask often."""
        broker = self._broker
        return broker.group_config(group_id) if broker.dynamic.of(GROUP, group_id) else self._defaults

    def _follow_settings(self) -> None:
        self._defaults = GroupConfig.defaults(self._broker.config)

    def _now(self) -> Now:
        return Now.of(self._broker.clock)

    def _replay(self, partitions: Iterable[Partition]) -> None:
        now = self._now()
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

    def _perform(self, effects: list[Effect]) -> None:
        queue = deque(effects)
        while queue:
            match queue.popleft():
                case Reply(token, response):
                    assert isinstance(token, Slot)
                    self._broker.answer(token, response)
                case Append() as append:
                    queue.extend(self._append(append))
        self._arm_timer()

    def _append(self, append: Append) -> list[Effect]:
        """Write the records; effects that follow at once, if nothing has to wait for the disk."""
        broker, now = self._broker, self._now()
        commit = broker.commit
        try:
            partition = broker.topics.ensure_offsets_topic().partitions[append.partition]
            records = [Record(timestamp_ms=now.time_ms, key=r.key, value=r.value) for r in append.records]
            batch = build_batch(records) if append.producer is None else _in_transaction(records, append.producer)
            result = partition.log.append(
                batch, leader_epoch=LEADER_EPOCH, now_ms=now.time_ms, origin=Origin.COORDINATOR
            )
        except KafkaError as error:
            return self.coordinator.on_append_failed(append.ticket, error.code, now=now)
        durable = broker.config.fsync_acks_all
        waits = commit.settle(partition, result.base_offset, result.last_offset + 1, len(batch), durable)
        if not waits:
            return self.coordinator.on_appended(append.ticket, now=now)
        commit.on_durable(lambda failure: self._on_durable(append.ticket, failure))
        return []

    def _on_durable(self, ticket: int, failure: KafkaError | None) -> None:
        if failure is None:
            self._perform(self.coordinator.on_appended(ticket, now=self._now()))
        else:
            self._perform(self.coordinator.on_append_failed(ticket, failure.code, now=self._now()))

    def _arm_timer(self) -> None:
        deadline = self.coordinator.next_deadline()
        timer = self._timer
        if deadline is None or (timer is not None and not timer.is_done and timer.deadline <= deadline):
            return  # a timer that fires too early only arms the next one
        if timer is not None:
            timer.is_done = True
        self._timer = GroupTimer(self, deadline)
        delay = deadline - self._broker.clock.monotonic()
        self._broker.deadlines.push(self._broker.loop.time() + delay, self._timer)


def _in_transaction(records: list[Record], producer: Producer) -> bytearray:
    """A batch that counts when the producer's transaction is committed. Coordinators write no sequence numbers."""
    return build_batch(records, producer_id=producer.producer_id, producer_epoch=producer.epoch, transactional=True)


class GroupTimer:
    """The coordinator's next deadline."""

    __slots__ = ("_groups", "deadline", "is_done")

    def __init__(self, groups: Groups, deadline: float) -> None:
        self.deadline = deadline
        self.is_done = False
        self._groups = groups

    def on_deadline(self) -> None:
        self.is_done = True
        self._groups.on_deadline()
