"""One moment of a broker as plain numbers, taken on the loop in one go. Knows no format."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from logqueue.broker.metrics.meters import Histogram

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


class PartitionFigures(NamedTuple):
    """A partition; `unflushed` are records that no fsync has covered."""

    topic: str
    partition: int
    size: int
    segments: int
    start: int
    end: int
    unflushed: int


class TopicFigures(NamedTuple):
    """A topic since the broker has started."""

    topic: str
    messages_in: int
    bytes_in: int
    bytes_out: int


class LagFigures(NamedTuple):
    """How far a group is in a partition; `lag` counts offsets up to the high watermark."""

    group: str
    topic: str
    partition: int
    offset: int
    lag: int


class Durations(NamedTuple):
    """A histogram at that moment."""

    counts: tuple[int, ...]
    seconds: float

    @classmethod
    def of(cls, histogram: Histogram) -> Durations:
        return cls(tuple(histogram.counts), histogram.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that the page tells."""

    topics: list[TopicFigures]
    partitions: list[PartitionFigures]
    lags: list[LagFigures]
    requests: dict[str, Durations]
    fsync: Durations
    connections: int
    parked_fetches: int
    waiting_for_fsync: int
    throttled: int
    throttled_ms: float
    disk_total: int
    disk_free: int
    has_failed: bool
    uncleanable: frozenset[tuple[str, int]]


def take(broker: Broker) -> Snapshot:
    """The broker as it is now."""
    disk = shutil.disk_usage(broker.config.data_dir)
    requests = broker.request_meters
    return Snapshot(
        topics=list(_topics(broker)),
        partitions=list(_partitions(broker)),
        lags=list(lags(broker)),
        requests={} if requests is None else {name: Durations.of(each) for name, each in requests.by_api.items()},
        fsync=Durations.of(broker.commit.fsync_times),
        connections=broker.connection_count,
        parked_fetches=broker.parked_fetches,
        waiting_for_fsync=broker.commit.waiting,
        throttled=broker.throttled,
        throttled_ms=broker.throttled_ms,
        disk_total=disk.total,
        disk_free=disk.free,
        has_failed=broker.storage_failure is not None,
        uncleanable=frozenset((each.topic, each.partition) for each in broker.uncleanable),
    )


def _topics(broker: Broker) -> Iterator[TopicFigures]:
    for topic in broker.topics.by_name.values():
        partitions = topic.partitions
        yield TopicFigures(
            topic.name,
            sum(each.log.log_end_offset - each.opened_at for each in partitions),
            sum(each.bytes_in for each in partitions),
            sum(each.bytes_out for each in partitions),
        )


def _partitions(broker: Broker) -> Iterator[PartitionFigures]:
    for topic in broker.topics.by_name.values():
        for index, each in enumerate(topic.partitions):
            log = each.log
            yield PartitionFigures(
                topic.name,
                index,
                log.size,
                log.segment_count,
                log.log_start_offset,
                log.log_end_offset,
                log.log_end_offset - log.durable_offset,
            )


def lags(broker: Broker) -> Iterator[LagFigures]:
    """Every offset that a group has committed, next to the partition's end. Loads no groups: none, none lag."""
    groups = broker.loaded_groups
    if groups is None:
        return
    for group, partition, offset in groups.coordinator.committed_offsets():
        topic = broker.topics.by_name.get(partition.topic)
        if topic is not None and partition.partition < len(topic.partitions):
            end = topic.partitions[partition.partition].high_watermark
            yield LagFigures(group, partition.topic, partition.partition, offset, max(0, end - offset))
