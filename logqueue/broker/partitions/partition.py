"""A log as its readers see it: high watermark, last stable offset, the fetches parked at its end. Knows no socket.

One node has no replicas to wait for, so Kafka would show records at once. Here a batch sent with acks=all stays hidden
until it is on the disk: nobody acts on a record that a power cut could still take back from its producer. Readers of
committed records see less, up to the first transaction that is open, or whose marker is still hidden (KIP-98).
"""

from __future__ import annotations

import logging
from typing import Protocol

from logqueue.broker.deadlines import Waiting
from logqueue.config import LogConfig
from logqueue.errors import ErrorCode, KafkaError
from logqueue.ids import TopicPartition
from logqueue.protocol.wire import FileSlice
from logqueue.storage.log import PartitionLog
from logqueue.storage.open_files import OpenFile

log = logging.getLogger("logqueue.broker")

LEADER_EPOCH = 0  # one node leads everything from the first record on, and nothing it acknowledged is ever cut


class HeldSlice(FileSlice):
    """Stored records on their way out: holds the segment's descriptor open until the last byte has left."""

    __slots__ = ("file",)

    def __init__(self, file: OpenFile, position: int, size: int) -> None:
        super().__init__(file.fd, position, size)
        self.file = file


class Parked(Protocol):
    """What waits for a partition to grow (three today: fetches of clients, their sessions, the probes of tests)."""

    def on_growth(self, partition: Partition, size: int) -> None: ...

    def on_deadline(self) -> None: ...


class Partition:
    """One partition of one topic, with what may be shown of it."""

    __slots__ = (
        "_hidden_bytes",
        "_hold",
        "_is_unreadable",
        "bytes_in",
        "bytes_out",
        "config",
        "flush_due",
        "high_watermark",
        "id",
        "is_internal",
        "log",
        "opened_at",
        "parked",
    )

    def __init__(
        self, partition_id: TopicPartition, log: PartitionLog, config: LogConfig, *, is_internal: bool = False
    ) -> None:
        self.id = partition_id
        self.log = log
        self.config = config
        self.is_internal = is_internal
        self.flush_due: Waiting | None = None  # set while `flush.ms` is running
        self.high_watermark = log.log_end_offset
        self.opened_at = log.log_end_offset  # records since then, and bytes in and out, are what metrics tell
        self.bytes_in = 0
        self.bytes_out = 0
        self.parked: dict[Parked, None] = {}  # in order of arrival
        self._hold: int | None = None  # first offset that waits for the disk
        self._hidden_bytes = 0
        self._is_unreadable = False

    @property
    def last_stable_offset(self) -> int:
        """Where readers of committed records stop: the high watermark, or the first undecided transaction below it."""
        watermark = self.high_watermark
        producers = self.log.producer_state
        if not (producers.open_transactions or producers.ended_transactions):
            return watermark
        first = self.log.first_unstable_offset(watermark)
        return watermark if first is None or first > watermark else first

    def check_epoch(self, current_leader_epoch: int) -> None:
        """Refuse a reader whose idea of the leader is older or newer than the truth (KIP-320); -1 has none."""
        if current_leader_epoch > LEADER_EPOCH:
            raise KafkaError(code=ErrorCode.UNKNOWN_LEADER_EPOCH)
        if -1 < current_leader_epoch < LEADER_EPOCH:
            raise KafkaError(code=ErrorCode.FENCED_LEADER_EPOCH)

    def unreadable(self, error: OSError) -> ErrorCode:
        """The code for a read that the disk refused; the first one is told."""
        if not self._is_unreadable:
            self._is_unreadable = True
            log.error("%s cannot be read: %s", self.id, error)
        return ErrorCode.KAFKA_STORAGE_ERROR

    def appended(self, size: int) -> None:
        """Show a batch that promised nothing, unless an earlier one is still waiting for the disk."""
        if self._hold is None:
            self.high_watermark = self.log.log_end_offset
            if self.parked:
                self._wake(size)
        else:
            self._hidden_bytes += size

    def hold(self, base_offset: int, size: int) -> None:
        """Hide the batch at `base_offset`, and all that follow, until `release`."""
        self._hidden_bytes += size
        if self._hold is None:
            self._hold = base_offset

    def release(self, held_from: int | None) -> None:
        """A flush is through: show everything below `held_from` (None: everything)."""
        self._hold = held_from
        shown = self.log.log_end_offset if held_from is None else held_from
        if shown > self.high_watermark:
            self.high_watermark = shown
            hidden, self._hidden_bytes = self._hidden_bytes, 0
            if self.parked:
                self._wake(hidden)

    def start_moved(self) -> None:
        """The log starts elsewhere: those who wait here have something to tell, but nothing more to read."""
        if self.parked:
            self._wake(0)

    def wake_all(self) -> None:
        """Answer everything that is parked here: the partition goes away, or the broker does."""
        for parked in list(self.parked):
            parked.on_deadline()

    def _wake(self, size: int) -> None:
        for parked in list(self.parked):
            parked.on_growth(self, size)
