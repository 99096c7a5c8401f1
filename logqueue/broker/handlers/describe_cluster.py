"""DescribeCluster (60): the one node (KIP-700). v1+: endpoint type; v2+: fenced brokers, of which there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.handlers.metadata import CLUSTER_OPERATIONS
from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

BROKERS, CONTROLLERS = 1, 2


def handle(broker: Broker, request: DescribeClusterRequest, slot: Slot) -> DescribeClusterResponse:
    if request.endpoint_type != BROKERS:
        is_known = request.endpoint_type == CONTROLLERS
        return DescribeClusterResponse(
            error_code=ErrorCode.MISMATCHED_ENDPOINT_TYPE if is_known else ErrorCode.UNSUPPORTED_ENDPOINT_TYPE,
            error_message="only the broker endpoint (type 1) is here; there is no controller listener",
        )
    host, port = broker.advertised(slot)
    response = DescribeClusterResponse(
        cluster_id=broker.cluster_id,
        controller_id=broker.node_id,
        brokers=[DescribeClusterBroker(broker_id=broker.node_id, host=host, port=port)],
    )
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = CLUSTER_OPERATIONS
    return response
