"""Which records a replay runs: a topic, a range by offset or time in each partition, or chosen offsets. Shell."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from logqueue.errors import LogqueueError
from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.errors import InvalidDefinition
from logqueue.jobs.settings import Settings
from logqueue.jobs.times import to_ms
from logqueue.jobs.topics import TopicRole, check_group
from logqueue_consumers.topics.listing import partition_counts

if TYPE_CHECKING:
    from logqueue.jobs.app import App

Position = int | datetime
"""An offset (in every partition), or an aware time."""
Chosen = Mapping[int, Sequence[int]]
"""Offsets by partition, ascending."""

READ_TIMEOUT_S = 20.0


class InvalidReplay(LogqueueError):
    """What was asked cannot be replayed; the text says why."""


@dataclass(frozen=True, slots=True)
class Range:
    """The records of one partition in [start, end), or those of them that are chosen."""

    start: int
    end: int
    chosen: tuple[int, ...] | None = None

    def count(self, end: int | None = None) -> int:
        """How many records it has, or has below `end`."""
        last = self.end if end is None else min(end, self.end)
        if self.chosen is None:
            return max(0, last - self.start)
        return max(0, bisect_left(self.chosen, last) - bisect_left(self.chosen, self.start))

    def holds(self, offset: int) -> bool:
        """Whether the record is meant."""
        if self.chosen is None:
            return self.start <= offset < self.end
        place = bisect_left(self.chosen, offset)
        return place < len(self.chosen) and self.chosen[place] == offset


def narrowed(ranges: Mapping[TopicPartition, Range], chosen: Chosen) -> dict[TopicPartition, Range]:
    """The ranges with nothing but the chosen records, from the first of them to the last."""
    found = {}
    for tp, extent in ranges.items():
        kept = tuple(offset for offset in chosen.get(tp.partition, ()) if extent.start <= offset < extent.end)
        found[tp] = Range(kept[0], kept[-1] + 1, kept) if kept else Range(extent.start, extent.start, ())
    return found


def check_shadow(group: str, app: App) -> None:
    """InvalidReplay for a group that is none, or the live one of the app."""
    try:
        is_live = check_group(group) == app.group
    except InvalidDefinition as error:
        raise InvalidReplay(f"group: {error}") from None
    if is_live:
        raise InvalidReplay(f"Group {group!r} is the live group of app {app.name!r}: replay in a group of its own")


def checked_topic(app: App, topic: str, settings: Settings) -> tuple[str, TopicRole]:
    """The topic's name and role; InvalidReplay if it holds no jobs of this app."""
    names = settings.topics
    for name in dict.fromkeys((topic, names.prefix + topic)):
        role = names.role(name)
        if role is not None and role.queue is not None:
            if role.queue not in app.queues:
                known = ", ".join(sorted(app.queues)) or "none"
                raise InvalidReplay(f"App {app.name!r} has no queue {role.queue!r} to replay {name}; it has: {known}")
            return name, role
    raise InvalidReplay(f"{topic!r} is no topic of jobs (such as jobs.<queue> or dlq.<queue>.<group>)")


async def resolve(
    settings: Settings, topic: str, start: Position | None, end: Position | None
) -> dict[TopicPartition, Range]:
    """The offsets to replay in each partition, as the log is now."""
    count = (await partition_counts(settings)).get(topic)
    if count is None:
        raise InvalidReplay(f"Topic {topic} does not exist at {settings.bootstrap}")
    partitions = [TopicPartition(topic, number) for number in range(count)]
    reader: AIOKafkaConsumer = await start_client(lambda: new_reader(settings), settings)
    try:
        reader.assign(partitions)
        async with asyncio.timeout(READ_TIMEOUT_S):
            first = await reader.beginning_offsets(partitions)
            last = await reader.end_offsets(partitions)
            starts = await _offsets_at(reader, partitions, start, otherwise=first)
            ends = await _offsets_at(reader, partitions, end, otherwise=last)
    except (KafkaError, TimeoutError) as error:
        raise InvalidReplay(f"The extent of topic {topic} cannot be read: {error!r}") from None
    finally:
        await stop_client(reader)
    ranges = {}
    for tp in partitions:
        low = max(first[tp], starts.get(tp, last[tp]))
        ranges[tp] = Range(low, max(low, min(last[tp], ends.get(tp, last[tp]))))
    return ranges


async def _offsets_at(
    reader: AIOKafkaConsumer,
    partitions: list[TopicPartition],
    position: Position | None,
    *,
    otherwise: dict[TopicPartition, int],
) -> dict[TopicPartition, int]:
    """The offsets of a position; partitions without records at or after a time are left out."""
    if position is None:
        return otherwise
    if isinstance(position, int):
        return dict.fromkeys(partitions, position)
    at_ms = to_ms(position)
    found = await reader.offsets_for_times(dict.fromkeys(partitions, at_ms))
    return {tp: at.offset for tp, at in found.items() if at is not None}
