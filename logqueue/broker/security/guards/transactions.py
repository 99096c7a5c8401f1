"""Guards of the APIs of idempotent and transactional producers."""

from __future__ import annotations

from typing import Any

from logqueue.broker.partitions.topics import INTERNAL_TOPICS
from logqueue.broker.security.guards.access import Access, Verdict, split
from logqueue.broker.security.guards.groups import refusal
from logqueue.errors import ErrorCode
from logqueue.protocol.messages import (
    add_partitions_to_txn,
    describe_transactions,
    init_producer_id,
    txn_offset_commit,
    write_txn_markers,
)
from logqueue.security.acl import Operation

DENIED = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
GROUP_DENIED = ErrorCode.GROUP_AUTHORIZATION_FAILED
TOPIC_DENIED = ErrorCode.TOPIC_AUTHORIZATION_FAILED
CLUSTER_DENIED = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
BETWEEN_BROKERS = 4  # AddPartitionsToTxn from this version on is the brokers' own (KIP-890)


def guard_init_producer_id(access: Access, request: init_producer_id.InitProducerIdRequest, version: int) -> Verdict:
    """WRITE on the transactional id; without one IDEMPOTENT_WRITE on the cluster or WRITE on any topic (KIP-679)."""
    if request.transactional_id is not None:
        is_allowed = access.to_transactional_id(Operation.WRITE, request.transactional_id)
        code = DENIED
    else:
        is_allowed = access.to_cluster(Operation.IDEMPOTENT_WRITE) or access.to_any_topic(Operation.WRITE)
        code = CLUSTER_DENIED
    if is_allowed:
        return None
    return init_producer_id.InitProducerIdResponse(error_code=code, producer_epoch=-1)


def guard_add_partitions_to_txn(
    access: Access, request: add_partitions_to_txn.AddPartitionsToTxnRequest, version: int
) -> Verdict:
    """WRITE on the transactional id and on every topic: one refused topic refuses all."""
    if version >= BETWEEN_BROKERS:
        return None if access.to_cluster(Operation.CLUSTER_ACTION) else refusal(request, CLUSTER_DENIED)
    topics = request.v3_and_below_topics
    if not access.to_transactional_id(Operation.WRITE, request.v3_and_below_transactional_id):
        return _topic_errors(topics, dict.fromkeys((topic.name for topic in topics), DENIED))
    codes = {topic.name: ErrorCode.OPERATION_NOT_ATTEMPTED for topic in topics}
    for name in codes:
        if name in INTERNAL_TOPICS or not access.to_topic(Operation.WRITE, name):
            codes[name] = TOPIC_DENIED
    return _topic_errors(topics, codes) if TOPIC_DENIED in codes.values() else None


def _topic_errors(topics: Any, codes: dict[str, ErrorCode]) -> add_partitions_to_txn.AddPartitionsToTxnResponse:
    return add_partitions_to_txn.AddPartitionsToTxnResponse(
        results_by_topic_v3_and_below=[
            add_partitions_to_txn.AddPartitionsToTxnTopicResult(
                name=topic.name,
                results_by_partition=[
                    add_partitions_to_txn.AddPartitionsToTxnPartitionResult(
                        partition_index=index, partition_error_code=codes[topic.name]
                    )
                    for index in topic.partitions
                ],
            )
            for topic in topics
        ]
    )


def guard_add_offsets_to_txn(access: Access, request: Any, version: int) -> Verdict:
    """WRITE on the transactional id, READ on the group."""
    if not access.to_transactional_id(Operation.WRITE, request.transactional_id):
        return refusal(request, DENIED)
    return None if access.to_group(Operation.READ, request.group_id) else refusal(request, GROUP_DENIED)


def guard_end_txn(access: Access, request: Any, version: int) -> Verdict:
    """WRITE on the transactional id."""
    is_allowed = access.to_transactional_id(Operation.WRITE, request.transactional_id)
    return None if is_allowed else refusal(request, DENIED)


def guard_txn_offset_commit(access: Access, request: txn_offset_commit.TxnOffsetCommitRequest, version: int) -> Verdict:
    """WRITE on the transactional id, READ on the group and on every topic."""
    if not access.to_transactional_id(Operation.WRITE, request.transactional_id):
        return _commit_errors(request.topics, DENIED)
    if not access.to_group(Operation.READ, request.group_id):
        return _commit_errors(request.topics, GROUP_DENIED)
    request.topics, refused = split(request.topics, lambda topic: access.to_topic(Operation.READ, topic.name))
    if not refused:
        return None
    denied = _commit_errors(refused, TOPIC_DENIED)
    if not request.topics:
        return denied

    def amend(response: Any) -> Any:
        response.topics = [*response.topics, *denied.topics]
        return response

    return amend


def _commit_errors(topics: Any, code: ErrorCode) -> txn_offset_commit.TxnOffsetCommitResponse:
    return txn_offset_commit.TxnOffsetCommitResponse(
        topics=[
            txn_offset_commit.TxnOffsetCommitResponseTopic(
                name=topic.name,
                partitions=[
                    txn_offset_commit.TxnOffsetCommitResponsePartition(
                        partition_index=part.partition_index, error_code=code
                    )
                    for part in topic.partitions
                ],
            )
            for topic in topics
        ]
    )


def guard_write_txn_markers(access: Access, request: write_txn_markers.WriteTxnMarkersRequest, version: int) -> Verdict:
    """ALTER or CLUSTER_ACTION on the cluster."""
    if access.to_cluster(Operation.ALTER) or access.to_cluster(Operation.CLUSTER_ACTION):
        return None
    return write_txn_markers.WriteTxnMarkersResponse(
        markers=[
            write_txn_markers.WritableTxnMarkerResult(
                producer_id=marker.producer_id,
                topics=[
                    write_txn_markers.WritableTxnMarkerTopicResult(
                        name=topic.name,
                        partitions=[
                            write_txn_markers.WritableTxnMarkerPartitionResult(
                                partition_index=index, error_code=CLUSTER_DENIED
                            )
                            for index in topic.partition_indexes
                        ],
                    )
                    for topic in marker.topics
                ],
            )
            for marker in request.markers
        ]
    )


def guard_describe_transactions(
    access: Access, request: describe_transactions.DescribeTransactionsRequest, version: int
) -> Verdict:
    """DESCRIBE on every transactional id; of its topics only those are shown that may be described."""
    request.transactional_ids, refused = split(
        request.transactional_ids, lambda name: access.to_transactional_id(Operation.DESCRIBE, name)
    )

    def amend(response: Any) -> Any:
        for state in response.transaction_states:
            state.topics = [t for t in state.topics if access.to_topic(Operation.DESCRIBE, t.topic)]
        response.transaction_states = response.transaction_states + [
            describe_transactions.TransactionState(transactional_id=name, error_code=DENIED) for name in refused
        ]
        return response

    return amend


def guard_list_transactions(access: Access, request: Any, version: int) -> Verdict:
    """Only the transactional ids are shown that may be described."""

    def amend(response: Any) -> Any:
        response.transaction_states = [
            state
            for state in response.transaction_states
            if access.to_transactional_id(Operation.DESCRIBE, state.transactional_id)
        ]
        return response

    return amend
