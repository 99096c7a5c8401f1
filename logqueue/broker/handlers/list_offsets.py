"""ListOffsets (2): where a partition begins, ends, or passes a time.

v2+: isolation level; v4+: leader epochs (KIP-320); v7: max timestamp (KIP-734); v8: earliest local (KIP-405);
v9: latest tiered (KIP-1005); v11: earliest pending upload (KIP-1023). Without tiers, "local" is everything.
"""

from __future__ import annotations

from collections import Counter
from enum import IntEnum
from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.broker.partitions.partition import LEADER_EPOCH, Partition
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
    ListOffsetsTopicResponse,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

NONE = -1
READ_COMMITTED = 1


class Place(IntEnum):
    """Timestamps that are not times."""

    LATEST = -1
    EARLIEST = -2
    MAX_TIMESTAMP = -3
    EARLIEST_LOCAL = -4
    LATEST_TIERED = -5
    EARLIEST_PENDING_UPLOAD = -6


# The first version in which each may be asked for.
SINCE: dict[int, int] = {
    Place.LATEST: 0,
    Place.EARLIEST: 0,
    Place.MAX_TIMESTAMP: 7,
    Place.EARLIEST_LOCAL: 8,
    Place.LATEST_TIERED: 9,
    Place.EARLIEST_PENDING_UPLOAD: 11,
}


def handle(broker: Broker, request: ListOffsetsRequest, slot: Slot) -> ListOffsetsResponse:
    is_committed = request.isolation_level == READ_COMMITTED
    named = Counter((topic.name, part.partition_index) for topic in request.topics for part in topic.partitions)
    return ListOffsetsResponse(
        topics=[_topic(broker, wanted, named, is_committed, slot.api_version) for wanted in request.topics]
    )


def _topic(
    broker: Broker, wanted: ListOffsetsTopic, named: Counter[tuple[str, int]], is_committed: bool, version: int
) -> ListOffsetsTopicResponse:
    answers = []
    for part in wanted.partitions:
        answer = ListOffsetsPartitionResponse(partition_index=part.partition_index)
        try:
            if named[wanted.name, part.partition_index] > 1:
                raise KafkaError(code=ErrorCode.INVALID_REQUEST)
            if part.timestamp < 0 and version < SINCE.get(part.timestamp, version + 1):
                raise KafkaError(code=ErrorCode.UNSUPPORTED_VERSION)
            partition = broker.topics.partition(wanted.name, part.partition_index)
            partition.check_epoch(part.current_leader_epoch)
            try:
                answer.timestamp, answer.offset = _find(partition, part.timestamp, is_committed)
            except OSError as error:
                raise KafkaError(code=partition.unreadable(error)) from error
            answer.leader_epoch = LEADER_EPOCH if answer.offset >= 0 else NONE
        except KafkaError as error:
            answer.error_code = error.code
        answers.append(answer)
    return ListOffsetsTopicResponse(name=wanted.name, partitions=answers)


def _find(partition: Partition, timestamp_ms: int, is_committed: bool) -> tuple[int, int]:
    """The timestamp and offset to answer; nothing behind the last stable offset is found if `is_committed`."""
    log = partition.log
    end = partition.last_stable_offset if is_committed else partition.high_watermark
    match timestamp_ms:
        case Place.LATEST:
            return NONE, end
        case Place.EARLIEST | Place.EARLIEST_LOCAL:
            return NONE, log.log_start_offset
        case Place.MAX_TIMESTAMP:
            found = log.max_timestamp_offset(max_offset=end)
        case Place.LATEST_TIERED | Place.EARLIEST_PENDING_UPLOAD:
            return NONE, NONE  # no tiers: nothing was or will be uploaded
        case timestamp:
            found = log.offset_for_timestamp(timestamp, max_offset=end)
    if found is None:
        return NONE, NONE
    return found.timestamp_ms, found.offset
