"""Fetching for a member: partitions whose records can be taken are asked for, and the consumer is polled all the time.

The other partitions keep what was fetched for them, so back-pressure costs no second fetch. The group sees a live
member however long a job runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from logqueue_consumers.engine import JobEngine
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.partitions.partition import OwnedPartition

log = structlog.get_logger(__name__)

POLL_ALL_MS = 200
"""How long a fetch waits for records when every partition may give some."""
POLL_SOME_MS = 10
"""... when some partitions are full: they may get room at any time."""
HAND_ON_TURNS = 3
"""Turns of the loop in which jobs begin, end and go to the log before more is asked for: where there is more, getmany
comes back without one."""
FULL_WAIT_S = 0.5
"""How long to wait for room when all are full; the consumer is polled in between."""
MAX_ERRORS = 3
"""Polls in a row that may fail before the consumer is of no more use."""
NO_PARTITION = TopicPartition("logqueue.no-such-topic", 0)


class Fetching:
    """Brings records of the partitions in hand to `deliver`."""

    def __init__(
        self,
        engine: JobEngine,
        *,
        group: str,
        limits: WorkerLimits,
        partitions: Callable[[], Mapping[TopicPartition, OwnedPartition]],
        deliver: Callable[[OwnedPartition, Sequence[Any]], None],
    ) -> None:
        """`partitions` are those in hand at the moment: a rebalance makes others of them."""
        self._engine = engine
        self._group = group
        self._limits = limits
        self._partitions = partitions
        self._deliver = deliver

    async def run(self, consumer: AIOKafkaConsumer, stopping: asyncio.Event) -> None:
        """Fetch until `stopping` is set. Raises KafkaError where the consumer is beyond repair."""
        engine = self._engine
        intake = engine.records
        errors = 0
        while not stopping.is_set():
            engine.changed.clear()
            partitions = self._partitions()
            wait_s = intake.end_waits()
            wanted = [tp for tp, p in partitions.items() if intake.wants(p)] if intake.has_room() else []
            try:
                if wanted:
                    for tp in wanted:
                        if partitions[tp].share is not None and (at := intake.turn(partitions[tp])) is not None:
                            consumer.seek(tp, at)
                    is_all = len(wanted) == len(partitions)
                    fetched = await consumer.getmany(
                        *(() if is_all else wanted),  # the consumer looks at each that is named
                        timeout_ms=POLL_ALL_MS if is_all else POLL_SOME_MS,
                        max_records=self._limits.max_fetched,
                    )
                    # A fetch may outlast a rebalance; then what it brings belongs to the partitions as they are now.
                    # While they are away or being taken up it is of no use: the seek that ends this brings it again.
                    in_hand = self._partitions()
                    for tp, records in fetched.items():
                        partition = in_hand.get(tp)
                        if partition is not None and not partition.is_stopping:
                            self._deliver(partition, records)
                    for _ in range(HAND_ON_TURNS):
                        await asyncio.sleep(0)
                else:
                    await self._wait_for_room(consumer, FULL_WAIT_S if wait_s is None else wait_s)
                errors = 0
            except KafkaError as error:
                errors += 1
                log.warning("fetch failed", group=self._group, error=repr(error))
                # Of other partitions it may have taken records before it came to the bad one: those are fetched again.
                in_hand = self._partitions()
                for tp in wanted:
                    if partitions[tp] is in_hand.get(tp):
                        consumer.seek(tp, intake.fetch_again(partitions[tp]))
                if errors >= MAX_ERRORS:
                    raise
                await asyncio.sleep(0.1 * errors)

    async def _wait_for_room(self, consumer: AIOKafkaConsumer, seconds: float) -> None:
        """Nothing may be taken: poll without taking (the group must see a live member), then wait for room."""
        await consumer.getmany(NO_PARTITION, timeout_ms=0)
        try:
            async with asyncio.timeout(seconds):
                await self._engine.changed.wait()
        except TimeoutError:
            return
