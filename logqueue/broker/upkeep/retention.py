"""Old segments go: applies the retention rules to one partition. Its files leave the disk in `LogDirectory.purge`."""

from __future__ import annotations

import logging

from logqueue.broker.partitions.partition import Partition
from logqueue.storage.errors import DiskFull
from logqueue.storage.retention import find_expired

log = logging.getLogger("logqueue.broker.upkeep.retention")


def expire(partition: Partition, *, now_ms: int) -> int:
    """Take the segments that have to go out of a log; answers how many. The loop's thread.

    Raises OSError or StorageError.
    """
    stored = partition.log
    found = find_expired(
        stored.segments,
        partition.config,
        log_start_offset=stored.log_start_offset,
        log_end_offset=stored.log_end_offset,
        high_watermark=partition.high_watermark,
        now_ms=now_ms,
    )
    if found is None:
        return 0
    if found.rolls_first:
        try:
            stored.roll(now_ms)
        except DiskFull as error:  # the others can go, which makes space
            log.warning("%s keeps its last segment for now: %s", partition.id, error)
    count = stored.retire_before(found.offset)
    if count:
        partition.start_moved()
        log.info(
            "%s starts at offset %d now: %d segment(s) went because of %s",
            partition.id,
            stored.log_start_offset,
            count,
            found.reason,
        )
    return count
