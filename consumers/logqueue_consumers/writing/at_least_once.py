"""Delivery at least once: every record is durable before its status is, and a status before its offset counts.

What a crash leaves half written is finished by whoever takes over where a job's record had moved on already (see
`status.moved`), and written again where it had not: a follow-up job may then be there twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from logqueue_consumers.outcome import Outcome
from logqueue_consumers.status.records import StatusRecords
from logqueue_consumers.topics.partition_counts import TopicPartitions
from logqueue_consumers.writing.batch_producer import BatchProducer
from logqueue_consumers.writing.outgoing import Outgoing, Refusal
from logqueue_consumers.writing.pending import Delivered, Pending

log = structlog.get_logger(__name__)


class AtLeastOnce:
    """Writes with an idempotent producer, in two steps where an outcome has more than its status."""

    def __init__(self, producer: BatchProducer, records: StatusRecords, partitions: TopicPartitions) -> None:
        self._producer = producer
        self._records = records
        self._partitions = partitions

    async def deliver(self, pending: Pending) -> Delivered:
        """Write it all; an outcome of which the log refuses a record is not durable."""
        writable = await self._write_ahead(pending.outcomes)
        records = [*await self._partitions.place(pending.emitted)]
        records += [self._records.running(job) for job in pending.started]
        first = len(records)
        told = [outcome for outcome in writable if not outcome.is_silent]
        records += [self._records.status(outcome) for outcome in told]
        refused = complain(records, await self._producer.send(records))
        if not refused:
            return Delivered(writable)
        unwritten = {outcome for place, outcome in enumerate(told, first) if place in refused}
        return Delivered([outcome for outcome in writable if outcome not in unwritten])

    async def _write_ahead(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Write what goes beside the statuses; returns the outcomes whose statuses may follow.

        A status says that a job's record is finished, so where the job goes on must be durable before it is written. A
        record that moved on says as much to whoever takes over, so what else belongs to its outcome comes first.
        """
        beside = [outcome for outcome in outcomes if outcome.topic is not None or outcome.more]
        if not beside:
            return outcomes
        moving = [outcome for outcome in beside if outcome.topic is not None]
        first = [(outcome, record) for outcome in moving for record in outcome.more]
        unwritten = await self._write(first) if first else set()
        then = [(outcome, record) for outcome in beside if outcome.topic is None for record in outcome.more]
        then += [(outcome, self._records.moved_ahead(outcome)) for outcome in moving if outcome not in unwritten]
        unwritten |= await self._write(then) if then else set()
        return [outcome for outcome in outcomes if outcome not in unwritten] if unwritten else outcomes

    async def _write(self, owned: Sequence[tuple[Outcome, Outgoing]]) -> set[Outcome]:
        """Write records of outcomes; returns those of which the log refuses one."""
        placed = await self._partitions.place([record for _, record in owned])
        return {owned[place][0] for place in complain(placed, await self._producer.send(placed))}


def complain(records: Sequence[Outgoing], refusals: Sequence[Refusal]) -> set[int]:
    """Log what the log refused; returns the places of these records."""
    for place, error in refusals:
        record = records[place]
        log.error(
            "the log refuses a record: if it belongs to a job, that job is not done and will run again",
            topic=record.topic,
            bytes=len(record.value or b""),
            error=repr(error),
        )
    return {refusal.place for refusal in refusals}
