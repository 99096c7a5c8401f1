"""What a log remembers of idempotent and transactional producers (KIP-98). Knows no files.

A producer's batches carry (producer id, epoch, first sequence). The last five batches of each producer are remembered,
so that a batch sent again is recognised and answered with the offset it got the first time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from logqueue.records.batch import MAX_SEQUENCE, NO_PRODUCER_EPOCH, NO_SEQUENCE, BatchHeader, add_sequence
from logqueue.records.control import EndTransactionMarker
from logqueue.storage.errors import InvalidProducerEpoch, InvalidTxnState, OutOfOrderSequence

REMEMBERED_BATCHES = 5
NO_OFFSET = -1


class ProducedBatch(NamedTuple):
    """A batch a producer got into the log."""

    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp_ms: int

    @property
    def first_sequence(self) -> int:
        if self.last_sequence == NO_SEQUENCE:
            return NO_SEQUENCE
        return add_sequence(self.last_sequence, -self.offset_delta)

    @property
    def first_offset(self) -> int:
        return self.last_offset - self.offset_delta


class ProducerEntry:
    """One producer id in one log; `transaction_start` is the first offset of its open transaction (-1: none)."""

    __slots__ = ("batches", "coordinator_epoch", "epoch", "last_timestamp_ms", "producer_id", "transaction_start")

    def __init__(self, producer_id: int, epoch: int = NO_PRODUCER_EPOCH) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        self.coordinator_epoch = -1
        self.transaction_start = NO_OFFSET
        self.last_timestamp_ms = -1
        self.batches: deque[ProducedBatch] = deque(maxlen=REMEMBERED_BATCHES)

    @property
    def last_sequence(self) -> int:
        """Sequence of the newest record; -1 if this epoch has none yet."""
        return self.batches[-1].last_sequence if self.batches else NO_SEQUENCE


class ProducerState:
    """All producers of one log."""

    def __init__(self, entries: dict[int, ProducerEntry] | None = None) -> None:
        self._entries = entries or {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[ProducerEntry]:
        return iter(self._entries.values())

    def get(self, producer_id: int) -> ProducerEntry | None:
        """What is known of a producer id."""
        return self._entries.get(producer_id)

    @property
    def first_open_transaction(self) -> int | None:
        """Offset at which the oldest open transaction starts: what read_committed may not pass."""
        starts = [entry.transaction_start for entry in self if entry.transaction_start != NO_OFFSET]
        return min(starts) if starts else None

    def find_duplicate(self, header: BatchHeader) -> ProducedBatch | None:
        """The remembered batch that `header` repeats."""
        entry = self._entries.get(header.producer_id)
        if entry is None or entry.epoch != header.producer_epoch:
            return None
        last = header.last_sequence
        for batch in entry.batches:
            if batch.last_sequence == last and batch.first_sequence == header.base_sequence:
                return batch
        return None

    def check(self, header: BatchHeader) -> None:
        """Raise InvalidProducerEpoch, OutOfOrderSequence or InvalidTxnState if the batch may not follow.

        A new epoch starts at sequence 0; within an epoch sequences have no gaps; a producer id that is not known here
        (its records may have been deleted) starts anywhere (KIP-98, KIP-360).
        """
        entry = self._entries.get(header.producer_id)
        if entry is None or entry.epoch == NO_PRODUCER_EPOCH:
            return
        if header.producer_epoch < entry.epoch:
            raise InvalidProducerEpoch(
                f"Epoch {header.producer_epoch} of producer {header.producer_id} is older than {entry.epoch}"
            )
        if header.producer_epoch > entry.epoch:
            if header.base_sequence != 0:
                raise OutOfOrderSequence(
                    f"Producer {header.producer_id} starts its epoch {header.producer_epoch} "
                    f"with sequence {header.base_sequence} instead of 0"
                )
        elif not follows(entry.last_sequence, header.base_sequence):
            raise OutOfOrderSequence(
                f"Producer {header.producer_id} in epoch {entry.epoch}: "
                f"sequence {header.base_sequence} came after {entry.last_sequence}"
            )
        if entry.transaction_start != NO_OFFSET and not header.is_transactional:
            raise InvalidTxnState(f"Producer {header.producer_id} wrote outside the transaction it has open")

    def update(self, header: BatchHeader) -> None:
        """Remember a batch that is in the log; its header carries its final offsets."""
        entry = self._entries.get(header.producer_id)
        if entry is None:
            entry = self._entries[header.producer_id] = ProducerEntry(header.producer_id)
        if entry.epoch != header.producer_epoch:
            entry.epoch = header.producer_epoch
            entry.batches.clear()
        entry.batches.append(
            ProducedBatch(header.last_sequence, header.last_offset, header.last_offset_delta, header.max_timestamp)
        )
        entry.last_timestamp_ms = header.max_timestamp
        if header.is_transactional and entry.transaction_start == NO_OFFSET:
            entry.transaction_start = header.base_offset

    def end_transaction(self, header: BatchHeader, marker: EndTransactionMarker) -> None:
        """Take the marker of a control batch: the producer's transaction is over, its epoch is the marker's."""
        entry = self._entries.get(header.producer_id)
        if entry is None:
            entry = self._entries[header.producer_id] = ProducerEntry(header.producer_id)
        if entry.epoch != header.producer_epoch:
            entry.epoch = header.producer_epoch
            entry.batches.clear()
        entry.coordinator_epoch = marker.coordinator_epoch
        entry.transaction_start = NO_OFFSET
        entry.last_timestamp_ms = header.max_timestamp

    def expire(self, *, now_ms: int, after_ms: int) -> int:
        """Forget producers idle for longer than `after_ms`, never one with an open transaction; answers how many."""
        idle = [
            entry.producer_id
            for entry in self
            if entry.transaction_start == NO_OFFSET and now_ms - entry.last_timestamp_ms >= after_ms
        ]
        for producer_id in idle:
            del self._entries[producer_id]
        return len(idle)


def follows(last_sequence: int, first_sequence: int) -> bool:
    """Whether a batch may come after the one that ended with `last_sequence`; 0 follows 2^31-1."""
    return first_sequence == last_sequence + 1 or (first_sequence == 0 and last_sequence == MAX_SEQUENCE)
