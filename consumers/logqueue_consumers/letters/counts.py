"""How many dead letters there are, and how many of them are open. Shell.

The length of a topic says neither: it counts closed letters, and the markers of the transactions that wrote them
(KIP-98). So topics are read, as long as they are no longer than `MAX_COUNTED`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicRole
from logqueue_consumers.letters.dead_letters import DeadLettersUnreadable
from logqueue_consumers.letters.letter import Deeds, read_letter
from logqueue_consumers.topics.listing import partition_counts
from logqueue_consumers.topics.scan import READ_TIMEOUT_S, read_to_end

MAX_COUNTED = 20_000
"""Offsets of a topic; a letter takes about 30 us."""
MAX_COUNTED_BYTES = 64 * 1024 * 1024
"""... and bytes of the letters' values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterCount:
    """Of one topic. `letters` and `open` are None where it is too long to be read for a count."""

    offsets: int
    letters: int | None
    open: int | None


async def count_letters(settings: Settings, topics: Mapping[str, TopicRole]) -> dict[str, LetterCount]:
    """The counts of these dead-letter topics, as far as they exist. Raises DeadLettersUnreadable, BrokerUnreachable."""
    present = await partition_counts(settings)
    found = {topic: present[topic] for topic in topics if topic in present}
    if not found:
        return {}
    control, deeds = settings.topics.control, Deeds()
    reader: AIOKafkaConsumer = await start_client(lambda: new_reader(settings), settings)
    try:
        lengths = await _lengths(reader, found)
        if control in present and any(0 < length <= MAX_COUNTED for length in lengths.values()):
            async for record in read_to_end(reader, control, present[control]):
                deeds.apply(record.key, record.value)
        return {
            topic: await _count(reader, topic, topics[topic], present[topic], length=length, deeds=deeds)
            for topic, length in lengths.items()
        }
    except (KafkaError, TimeoutError) as error:
        raise DeadLettersUnreadable(f"Dead letters cannot be counted now: {error!r}") from None
    finally:
        await stop_client(reader)


async def _lengths(reader: AIOKafkaConsumer, topics: Mapping[str, int]) -> dict[str, int]:
    partitions = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
    reader.assign(partitions)
    async with asyncio.timeout(READ_TIMEOUT_S):
        begins, ends = await reader.beginning_offsets(partitions), await reader.end_offsets(partitions)
    lengths = dict.fromkeys(topics, 0)
    for tp in partitions:
        lengths[tp.topic] += ends[tp] - begins[tp]
    return lengths


async def _count(
    reader: AIOKafkaConsumer, topic: str, role: TopicRole, partitions: int, *, length: int, deeds: Deeds
) -> LetterCount:
    letters = open_ = size = 0
    if 0 < length <= MAX_COUNTED:
        async for record in read_to_end(reader, topic, partitions):
            letter = read_letter(record, queue=role.queue or "", group=role.group or "", deeds=deeds)
            letters, open_, size = letters + 1, open_ + letter.is_open, size + letter.size
            if size > MAX_COUNTED_BYTES:
                break
    if length > MAX_COUNTED or size > MAX_COUNTED_BYTES:
        return LetterCount(offsets=length, letters=None, open=None)
    return LetterCount(offsets=length, letters=letters, open=open_)
