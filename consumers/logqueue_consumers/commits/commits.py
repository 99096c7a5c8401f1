"""What a member commits: offset, offset map and notes, by themselves or in a transaction. Shell over the request.

By themselves: regularly, to name jobs that may end the process, when partitions are taken up and when they are given
up. With exactly-once processing positions go with the outcomes that they follow from (`transactions.exactly_once`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError

from logqueue_consumers.commits.notes import Named, Retried, read_notes, write_notes
from logqueue_consumers.commits.offset_reader import OffsetReader
from logqueue_consumers.crashes.watch import named_in
from logqueue_consumers.partitions.partition import OwnedPartition, Standing
from logqueue_consumers.retrying.notes import retried_in

if TYPE_CHECKING:
    from logqueue_consumers.transactions.values import Position

log = structlog.get_logger(__name__)

REFRESH_STATUSES = 50_000
"""Statuses after which the commit of an idle partition is written again: who takes it over reads from its bookmark."""


class Commits:
    """The commits of one group by one member."""

    def __init__(
        self,
        offsets: OffsetReader,
        *,
        group: str,
        timeout_s: float,
        lock: asyncio.Lock,
        status_ends: Callable[[], Sequence[int | None]],
        unwritten_since_ms: Callable[[], int],
        owner_note: Callable[[], str] | None,
        pass_markers: Callable[[Iterable[OwnedPartition]], None],
    ) -> None:
        """`lock` is held by whoever commits; `status_ends` are the ends of what this process has written.

        Outcomes from before `unwritten_since_ms` are durable, if they do not wait for the end of a rebalance.

        `owner_note` names the owner of the transactions that positions go with; None without transactions.

        `pass_markers` takes into the windows what was read and is no record, so that commits go past it.
        """
        self._offsets = offsets
        self._group = group
        self._timeout_s = timeout_s
        self._lock = lock
        self._status_ends = status_ends
        self._unwritten_since_ms = unwritten_since_ms
        self._owner_note = owner_note
        self._pass_markers = pass_markers
        self.status_floor: list[int] = []
        """Where the status topic ended when the partitions were taken up."""
        self._noted: dict[TopicPartition, int] = {}
        """The sum of the bookmark in each partition's last commit."""

    async def read(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        """What the log has for these partitions, nothing of it undecided. Tries until the log answers."""
        return await self._offsets.read(self._group, partitions)

    async def write(
        self,
        consumer: AIOKafkaConsumer,
        partitions: Mapping[TopicPartition, OwnedPartition],
        *,
        is_first: bool = False,
        is_last: bool = False,
        is_handover: bool = False,
    ) -> None:
        """Commit what changed, or everything: with the first bookmark, or with none because nothing is open.

        `is_handover` when the partitions are given up, though jobs may go on running. Raises TimeoutError and
        aiokafka's errors.
        """
        async with asyncio.timeout(self._timeout_s), self._lock:
            # No await up to the request: maps and bookmark must tell of the same moment.
            if not is_first:
                self._pass_markers(partitions.values())
            is_open = not is_last
            bookmark = self._bookmark() if is_open and self._owner_note is None else None
            since_ms = self._since_ms(partitions.values()) if bookmark is not None else None
            progress = sum(bookmark or ())
            owner = self._owner_note() if is_open and self._owner_note is not None else None
            changes, metadata = {}, {}
            for tp, partition in partitions.items():
                if partition.standing is not Standing.OWNED:
                    continue
                offset, map_text = partition.window.commit()
                named = named_in(partition.watch, base=offset, is_last=is_handover)
                retried = retried_in(partition, base=offset)
                commit = offset, write_notes(map_text, base=offset, named=named, retried=retried)
                is_stale = progress - self._noted.get(tp, progress) > REFRESH_STATUSES
                if is_first or is_handover or is_stale or commit != partition.committed:
                    changes[tp] = commit
                    text = write_notes(
                        map_text,
                        base=offset,
                        bookmark=bookmark,
                        since_ms=since_ms,
                        owner=owner,
                        named=named,
                        retried=retried,
                        is_handover=is_handover and not is_last,
                    )
                    metadata[tp] = (offset, text)
            if not changes:
                return
            try:
                await consumer.commit(metadata)
            except IllegalStateError as error:
                log.warning("not committed: partitions are no longer assigned", group=self._group, error=str(error))
                return
            for tp, commit in changes.items():
                partitions[tp].committed = commit
                self._noted[tp] = progress

    def positions(
        self,
        finished: Mapping[OwnedPartition, Collection[int]],
        retried: Mapping[OwnedPartition, Sequence[Retried]],
        *,
        owner: str,
    ) -> dict[TopicPartition, Position]:
        """What a transaction commits for these partitions when these offsets are finished, and these retries wait."""
        from logqueue_consumers.transactions.values import Position

        found = {}
        self._pass_markers(finished)
        for partition, offsets in finished.items():
            offset, map_text = partition.window.commit(offsets)
            named = _named(partition, base=offset, finished=offsets)
            waiting = retried_in(partition, base=offset, finished=offsets, also=retried.get(partition, ()))
            text = write_notes(map_text, base=offset, owner=owner, named=named, retried=waiting)
            found[_place(partition)] = Position(offset, text)
        return found

    def written(
        self, partitions: Iterable[OwnedPartition], positions: Mapping[TopicPartition, tuple[int, str]]
    ) -> None:
        """A transaction committed these positions: the next commit has nothing to add to them."""
        for partition in partitions:
            offset, text = positions[_place(partition)]
            notes = read_notes(text, base=offset)
            text = write_notes(notes.map_text, base=offset, named=notes.named, retried=notes.retried)
            partition.committed = offset, text

    def _bookmark(self) -> list[int]:
        """Per partition of the status topic: every outcome this worker wrote below it is in the maps."""
        ends = self._status_ends()
        return [max(floor, end or 0) for floor, end in zip(self.status_floor, ends, strict=False)]

    def _since_ms(self, partitions: Iterable[OwnedPartition]) -> int:
        """The time before which no outcome lies that the maps do not cover."""
        held_us = (outcome.at_us for partition in partitions for outcome in partition.held)
        return min(self._unwritten_since_ms(), min(held_us, default=2**63) // 1000)


def _place(partition: OwnedPartition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.partition)


def _named(partition: OwnedPartition, *, base: int, finished: Collection[int]) -> list[Named]:
    if partition.watch is None:
        return []
    return [job for job in named_in(partition.watch, base=base, is_last=False) if job.offset not in finished]
