"""A transactional id as of one record: who may write, and which partitions its transaction spans. A value, no IO.

Each method answers the value after one move; nothing changes in place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from logqueue.ids import TopicPartition
from logqueue.transaction.states import (
    COMPLETE_ABORT,
    COMPLETE_COMMIT,
    DEAD,
    EMPTY,
    MOVES,
    ONGOING,
    PREPARE_ABORT,
    PREPARE_COMMIT,
    TransactionState,
)

NO_PRODUCER_ID = -1
NO_EPOCH = -1
NO_TIME = -1
MAX_EPOCH = 32_767
# The last epoch a client gets to see: the one above it is kept for fencing.
LAST_CLIENT_EPOCH = MAX_EPOCH - 1

EPOCH_BUMP_VERSION = 2  # `transaction.version` from which every end of a transaction bumps the epoch (KIP-890)

_NO_PARTITIONS: frozenset[TopicPartition] = frozenset()


def is_exhausted(epoch: int) -> bool:
    """Whether a client that has this epoch needs a new producer id instead of the next epoch."""
    return epoch >= LAST_CLIENT_EPOCH


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """What `__transaction_state` knows of a transactional id. Times are milliseconds since the Unix epoch.

    `previous_producer_id` is the one before the last move, `next_producer_id` the one that a TV2 end will bring when
    the epoch ran out. `last_epoch`, the epoch a retried request may still carry, is not stored (as in Kafka).
    """

    transactional_id: str
    producer_id: int
    epoch: int = NO_EPOCH
    timeout_ms: int
    state: TransactionState = EMPTY
    partitions: frozenset[TopicPartition] = _NO_PARTITIONS
    started_ms: int = NO_TIME
    updated_ms: int
    previous_producer_id: int = NO_PRODUCER_ID
    next_producer_id: int = NO_PRODUCER_ID
    last_epoch: int = NO_EPOCH
    client_version: int = 0

    @property
    def is_new(self) -> bool:
        """Whether no producer has been given an epoch yet."""
        return self.epoch == NO_EPOCH

    @property
    def is_exhausted(self) -> bool:
        return is_exhausted(self.epoch)

    @property
    def commits(self) -> bool:
        """Whether the end of the transaction is a commit; only in a Prepare state."""
        assert self.state in (PREPARE_COMMIT, PREPARE_ABORT)
        return self.state is PREPARE_COMMIT

    def _moved(self, state: TransactionState, **changes: Any) -> Self:
        assert state in MOVES[self.state], f"{self.transactional_id} cannot go from {self.state} to {state}"
        return replace(self, state=state, previous_producer_id=self.producer_id, **changes)

    def with_next_epoch(self, *, last_epoch: int, timeout_ms: int, now_ms: int) -> Self:
        """InitProducerId: the next epoch fences whoever has the present one."""
        assert self.epoch < LAST_CLIENT_EPOCH
        return self._initialized(self.producer_id, self.epoch + 1, last_epoch, timeout_ms, now_ms)

    def with_same_epoch(self, *, timeout_ms: int, now_ms: int) -> Self:
        """InitProducerId sent again by a producer that did not get the answer (KIP-360)."""
        return self._initialized(self.producer_id, self.epoch, self.last_epoch, timeout_ms, now_ms)

    def with_new_id(self, producer_id: int, *, last_epoch: int, timeout_ms: int, now_ms: int) -> Self:
        """InitProducerId when the epochs of the producer id have run out."""
        return self._initialized(producer_id, 0, last_epoch, timeout_ms, now_ms)

    def _initialized(self, producer_id: int, epoch: int, last_epoch: int, timeout_ms: int, now_ms: int) -> Self:
        return self._moved(
            EMPTY,
            producer_id=producer_id,
            epoch=epoch,
            last_epoch=last_epoch,
            timeout_ms=timeout_ms,
            partitions=_NO_PARTITIONS,
            started_ms=NO_TIME,
            updated_ms=now_ms,
        )

    def with_partitions(self, partitions: Iterable[TopicPartition], *, client_version: int, now_ms: int) -> Self:
        """The transaction spans these partitions as well; the first ones begin it."""
        return self._moved(
            ONGOING,
            partitions=self.partitions.union(partitions),
            started_ms=self.started_ms if self.state is ONGOING else now_ms,
            updated_ms=now_ms,
            client_version=client_version,
        )

    def fenced(self) -> Self:
        """One epoch further without having written it: nobody is told this epoch (TV1)."""
        return replace(self, epoch=min(self.epoch + 1, MAX_EPOCH), last_epoch=NO_EPOCH)

    def prepared(self, *, commit: bool, client_version: int, next_producer_id: int, now_ms: int) -> Self:
        """The decision to commit or abort. With TV2 it carries the next epoch, so that its markers fence as well."""
        epoch, last_epoch = self.epoch, self.last_epoch
        if client_version >= EPOCH_BUMP_VERSION:
            epoch, last_epoch = min(epoch + 1, MAX_EPOCH), epoch
        return self._moved(
            PREPARE_COMMIT if commit else PREPARE_ABORT,
            epoch=epoch,
            last_epoch=last_epoch,
            next_producer_id=next_producer_id,
            # A TV2 abort without a transaction has no beginning: the time of the abort stands for it, as in Kafka.
            started_ms=self.started_ms if self.state is ONGOING else now_ms,
            updated_ms=now_ms,
            client_version=client_version,
        )

    def completed(self, *, now_ms: int) -> Self:
        """All markers are written. An epoch that ran out gives way to the new producer id."""
        rotates = self.client_version >= EPOCH_BUMP_VERSION and self.next_producer_id != NO_PRODUCER_ID
        return self._moved(
            COMPLETE_COMMIT if self.commits else COMPLETE_ABORT,
            producer_id=self.next_producer_id if rotates else self.producer_id,
            epoch=0 if rotates else self.epoch,
            next_producer_id=NO_PRODUCER_ID,
            partitions=_NO_PARTITIONS,
            updated_ms=now_ms,
        )

    def dead(self) -> Self:
        """The transactional id has expired; its record is a tombstone."""
        return self._moved(DEAD, partitions=_NO_PARTITIONS)
