"""One partition after the other for one answer: what may be read from an offset on, within the limits of the fetch.

Records leave as ranges of segment files, up to the high watermark, or the last stable offset for readers of committed
records, who are told what was aborted among them. The first batch is given whole, however large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.partitions.partition import HeldSlice, Partition
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.fetch import AbortedTransaction, FetchPartition, FetchRequest, PartitionData
from logqueue.protocol.wire import FileSlice

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.storage.log import PartitionLog

READ_COMMITTED = 1
FIRST_WITH_ZSTD = 10
FIRST_WITH_TOPIC_IDS = 13
NOTHING = b""


class Reading:
    """What the partitions of a fetch have to offer now."""

    __slots__ = (
        "_broker",
        "_request",
        "_room",
        "_version",
        "has_error",
        "has_more",
        "is_committed",
        "size",
        "unstable",
    )

    def __init__(self, broker: Broker, request: FetchRequest, version: int) -> None:
        self._broker = broker
        self._request = request
        self._version = version
        self.is_committed = request.isolation_level == READ_COMMITTED
        self._room = min(request.max_bytes, broker.config.fetch_max_bytes)
        self.size = 0
        self.has_error = False
        self.has_more = False  # a read ends with its segment, and there are more records behind
        self.unstable: dict[Partition, int] = {}  # last stable offsets below the high watermark

    @property
    def is_enough(self) -> bool:
        """Whether the fetch is answered with this at once."""
        return self.size >= self._request.min_bytes or self.has_error or self.has_more

    def may_wait(self) -> bool:
        """Whether the fetch is parked until there is enough, or its time is over."""
        broker = self._broker
        return (
            not self.is_enough
            and self._request.max_wait_ms > 0
            and broker.parked_fetches < broker.config.max_parked_fetches
            and not broker.is_stopping
        )

    def read(self, partition: Partition, wanted: FetchPartition) -> PartitionData:
        """What a partition has to offer, or why it has nothing."""
        log = partition.log
        high_watermark = partition.high_watermark
        stable = partition.last_stable_offset
        end = stable if self.is_committed else high_watermark
        if stable < high_watermark:
            self.unstable[partition] = stable
        offset = wanted.fetch_offset
        records: bytes | FileSlice = NOTHING
        aborted: list[AbortedTransaction] | None = [] if self.is_committed else None
        try:
            partition.check_epoch(wanted.current_leader_epoch)
            if self._version < FIRST_WITH_ZSTD and partition.config.compression_type == "zstd":
                return self.fail(wanted, ErrorCode.UNSUPPORTED_COMPRESSION_TYPE)  # KIP-110
            if not log.log_start_offset <= offset <= log.log_end_offset:
                return self.fail(wanted, ErrorCode.OFFSET_OUT_OF_RANGE, in_log=True)
            if offset < end and (self._room > 0 or self.size == 0):
                part = log.read(
                    offset=offset,
                    max_bytes=min(wanted.partition_max_bytes, self._room),
                    max_offset=end,
                    min_one_batch=self.size == 0,
                )
                if part.file is not None:
                    partition.bytes_out += part.size
                    records = HeldSlice(part.file, part.position, part.size)
                    self.size += part.size
                    self._room -= part.size
                    if part.next_offset < end:
                        self.has_more = True
                    if self.is_committed:
                        aborted = _aborted(log, offset, part.next_offset)
        except KafkaError as error:
            return self.fail(wanted, error.code, in_log=True)
        except OSError as error:
            return self.fail(wanted, partition.unreadable(error), in_log=True)
        return PartitionData(
            partition_index=wanted.partition,
            high_watermark=high_watermark,
            last_stable_offset=stable,
            log_start_offset=log.log_start_offset,
            aborted_transactions=aborted,
            records=records,
        )

    def fail(self, wanted: FetchPartition, code: ErrorCode, *, in_log: bool = False) -> PartitionData:
        """An error, with which the fetch is answered at once."""
        self.has_error = True
        return failed(wanted, code, in_log=in_log)


def failed(wanted: FetchPartition, code: ErrorCode, *, in_log: bool = False) -> PartitionData:
    """An error. Kafka sends no list of aborted transactions if the log refused, and an empty one otherwise."""
    return PartitionData(
        partition_index=wanted.partition,
        error_code=code,
        high_watermark=-1,
        last_stable_offset=-1,
        log_start_offset=-1,
        aborted_transactions=None if in_log else [],
        records=NOTHING,
    )


def _aborted(log: PartitionLog, offset: int, end_offset: int) -> list[AbortedTransaction]:
    return [
        AbortedTransaction(producer_id=found.producer_id, first_offset=found.first_offset)
        for found in log.aborted_transactions(offset, end_offset)
    ]
