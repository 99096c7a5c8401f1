"""What a log remembers of idempotent and transactional producers (KIP-98). Knows no files.

A producer's batches carry (producer id, epoch, first sequence). The last five batches of each producer are remembered,
so that a batch sent again is recognised and answered with the offset it got the first time. A producer's first
transactional batch opens its transaction here, the marker of the coordinator ends it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from logqueue.records.batch import (
    MAX_SEQUENCE,
    NO_PRODUCER_EPOCH,
    NO_SEQUENCE,
    TRANSACTIONAL,
    BatchHeader,
    add_sequence,
)
from logqueue.records.control import EndTransactionMarker
from logqueue.storage.errors import (
    InvalidProducerEpoch,
    InvalidTxnState,
    OutOfOrderSequence,
    TransactionCoordinatorFenced,
)
from logqueue.storage.verifications import Verifications

REMEMBERED_BATCHES = 5
NO_OFFSET = -1
TRANSACTION_VERSION_2 = 2
"""`transaction.version` from which on every transaction has an epoch of its own (KIP-890)."""


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


class EndedTransaction(NamedTuple):
    """A transaction whose marker is in the log; readers may not see the marker yet."""

    first_offset: int
    marker_offset: int


class ProducerState:
    """All producers of one log.

    `open_transactions` maps first offsets to producer ids, oldest first. `ended_transactions` are in the order of their
    markers, and stay until `settle` is told that the marker can be read. `verifications` belong to transactions that
    have nothing in the log yet.
    """

    __slots__ = ("_entries", "ended_transactions", "open_transactions", "verifications")

    def __init__(self, entries: dict[int, ProducerEntry] | None = None) -> None:
        self._entries = entries or {}
        starts = [(entry.transaction_start, entry.producer_id) for entry in self]
        self.open_transactions = {start: pid for start, pid in sorted(starts) if start != NO_OFFSET}
        self.ended_transactions: deque[EndedTransaction] = deque()
        self.verifications = Verifications()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[ProducerEntry]:
        return iter(self._entries.values())

    def get(self, producer_id: int) -> ProducerEntry | None:
        """What is known of a producer id."""
        return self._entries.get(producer_id)

    @property
    def first_open_transaction(self) -> int | None:
        """Offset at which the oldest open transaction starts."""
        return next(iter(self.open_transactions), None)

    def first_unstable(self, high_watermark: int) -> int | None:
        """First offset of a transaction without a marker below `high_watermark`: read_committed may not pass it."""
        self.settle(high_watermark)
        first = self.first_open_transaction
        for ended in self.ended_transactions:
            if first is None or ended.first_offset < first:
                first = ended.first_offset
        return first

    def settle(self, high_watermark: int) -> None:
        """Forget the ended transactions whose markers lie below `high_watermark`."""
        ended = self.ended_transactions
        while ended and ended[0].marker_offset < high_watermark:
            ended.popleft()

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
        """Raise InvalidProducerEpoch, OutOfOrderSequence or InvalidTxnState if a client's batch may not follow.

        A new epoch starts at sequence 0; within an epoch sequences have no gaps; a producer id that is not known here
        (its records may have been deleted) starts anywhere (KIP-98, KIP-360), but not above what `verifications` waits
        for (KIP-890).
        """
        entry = self._entries.get(header.producer_id)
        if entry is not None:
            _check_epoch(entry, header)
        if self.verifications:
            self.verifications.check(header, is_first=entry is None or not entry.batches)
        if entry is None or entry.epoch == NO_PRODUCER_EPOCH:
            return
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
        _check_transaction(entry, header)

    def check_unsequenced(self, header: BatchHeader) -> None:
        """Raise InvalidProducerEpoch or InvalidTxnState if a coordinator's batch may not follow; it has no sequence."""
        entry = self._entries.get(header.producer_id)
        if entry is not None:
            _check_epoch(entry, header)
            _check_transaction(entry, header)

    def check_marker(
        self, producer_id: int, producer_epoch: int, *, coordinator_epoch: int, transaction_version: int
    ) -> None:
        """Raise InvalidProducerEpoch or TransactionCoordinatorFenced for a marker that may not be written.

        Its epoch is at least the producer's; from transaction version 2 on it is larger, unless the marker repeats one
        that is in the log already (KIP-890).
        """
        entry = self._entries.get(producer_id)
        if entry is None:
            return
        needs_newer = transaction_version >= TRANSACTION_VERSION_2 and entry.transaction_start != NO_OFFSET
        if producer_epoch < entry.epoch or (needs_newer and producer_epoch == entry.epoch):
            raise InvalidProducerEpoch(
                f"A marker with epoch {producer_epoch} cannot end a transaction of producer {producer_id} in epoch "
                f"{entry.epoch} (transaction version {transaction_version})"
            )
        if coordinator_epoch < entry.coordinator_epoch:
            raise TransactionCoordinatorFenced(
                f"Coordinator epoch {coordinator_epoch} of producer {producer_id} is older than "
                f"{entry.coordinator_epoch}"
            )

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
        if header.attributes & TRANSACTIONAL:
            self.verifications.settle(header)
            if entry.transaction_start == NO_OFFSET:
                entry.transaction_start = header.base_offset
                self.open_transactions[header.base_offset] = header.producer_id

    def end_transaction(self, header: BatchHeader, marker: EndTransactionMarker) -> EndedTransaction | None:
        """Take the marker of a control batch: the producer's transaction is over, its epoch is the marker's.

        Answers the transaction; None if the producer had none open here.
        """
        entry = self._entries.get(header.producer_id)
        if entry is None:
            entry = self._entries[header.producer_id] = ProducerEntry(header.producer_id)
        if entry.epoch != header.producer_epoch:
            entry.epoch = header.producer_epoch
            entry.batches.clear()
        self.verifications.settle(header)
        entry.coordinator_epoch = marker.coordinator_epoch
        entry.last_timestamp_ms = header.max_timestamp
        start = entry.transaction_start
        if start == NO_OFFSET:
            return None
        entry.transaction_start = NO_OFFSET
        self.open_transactions.pop(start, None)
        ended = EndedTransaction(start, header.base_offset)
        self.ended_transactions.append(ended)
        return ended

    def expire(self, *, now_ms: int, after_ms: int) -> int:
        """Forget producers idle for longer than `after_ms`, never one with an open transaction; answers how many."""
        idle = [
            entry.producer_id
            for entry in self
            if entry.transaction_start == NO_OFFSET and now_ms - entry.last_timestamp_ms >= after_ms
        ]
        for producer_id in idle:
            del self._entries[producer_id]
        self.verifications.expire(now_ms=now_ms, after_ms=after_ms)
        return len(idle)


def _check_epoch(entry: ProducerEntry, header: BatchHeader) -> None:
    if header.producer_epoch < entry.epoch:
        raise InvalidProducerEpoch(
            f"Epoch {header.producer_epoch} of producer {header.producer_id} is older than {entry.epoch}"
        )


def _check_transaction(entry: ProducerEntry, header: BatchHeader) -> None:
    if entry.transaction_start != NO_OFFSET and not header.is_transactional:
        raise InvalidTxnState(f"Producer {header.producer_id} wrote outside the transaction it has open")


def follows(last_sequence: int, first_sequence: int) -> bool:
    """Whether a batch may come after the one that ended with `last_sequence`; 0 follows 2^31-1."""
    return first_sequence == last_sequence + 1 or (first_sequence == 0 and last_sequence == MAX_SEQUENCE)
