"""TxnOffsetCommit (28): positions that count when their transaction is committed.

v3+: fenced by generation (KIP-447); v5: the group is added to the transaction here (KIP-890).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.txn_offset_commit import TxnOffsetCommitRequest

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: TxnOffsetCommitRequest, slot: Slot) -> None:
    groups = broker.groups
    if not request.group_id or not _names_partitions(broker, request):
        groups.commit_in_transaction(request, ErrorCode.NONE, slot)  # nothing that could be committed: it says why
        return
    try:
        topic = broker.topics.ensure_offsets_topic()
    except KafkaError:  # the disk takes no new topic
        groups.commit_in_transaction(request, ErrorCode.COORDINATOR_NOT_AVAILABLE, slot)
        return
    partition = topic.partitions[groups.coordinator.partition_for(request.group_id)]
    broker.verification.admit_offsets(
        request.transactional_id,
        (request.producer_id, request.producer_epoch),
        partition,
        version=slot.api_version,
        then=lambda verified: groups.commit_in_transaction(request, verified, slot),
    )


def _names_partitions(broker: Broker, request: TxnOffsetCommitRequest) -> bool:
    by_name = broker.topics.by_name
    return any(
        (found := by_name.get(topic.name)) is not None and 0 <= partition.partition_index < len(found.partitions)
        for topic in request.topics
        for partition in topic.partitions
    )
