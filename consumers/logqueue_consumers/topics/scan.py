"""Reads a topic from its beginning to its present end. Shell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

READ_TIMEOUT_S = 30.0
"""Longest wait for the next records of a topic that is not at its end."""


async def read_to_end(reader: AIOKafkaConsumer, topic: str, count: int) -> AsyncIterator[Any]:
    """The records of a topic with `count` partitions, partition by partition in order.

    Raises TimeoutError and aiokafka's errors.
    """
    partitions = [TopicPartition(topic, number) for number in range(count)]
    reader.assign(partitions)
    async with asyncio.timeout(READ_TIMEOUT_S):
        begins = await reader.beginning_offsets(partitions)
        ends = await reader.end_offsets(partitions)
    left = {tp for tp in partitions if begins[tp] < ends[tp]}
    for tp in partitions:
        reader.seek(tp, begins[tp])
    for tp in partitions:
        while tp in left:
            async with asyncio.timeout(READ_TIMEOUT_S):
                fetched = await reader.getmany(tp, timeout_ms=500)
                position = await reader.position(tp)
            for record in fetched.get(tp, ()):
                if record.offset < ends[tp]:
                    yield record
            if position >= ends[tp]:
                left.discard(tp)
