"""DescribeCluster (key 60): brokers, controller and cluster id. v1 adds controllers (KIP-919), v2 fenced brokers."""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, bool_, int8, int16, int32, string
from logqueue.protocol.schema import Message, Struct


class DescribeClusterRequest(Message, key=ApiKey.DESCRIBE_CLUSTER, versions=(0, 2), flexible=0):
    include_cluster_authorized_operations: bool = bool_()
    endpoint_type: int = int8(since=1, default=1)
    include_fenced_brokers: bool = bool_(since=2)


class DescribeClusterBroker(Struct):
    broker_id: int = int32()
    host: str = string()
    port: int = int32()
    rack: str | None = string(nullable=0)
    is_fenced: bool = bool_(since=2)


class DescribeClusterResponse(Message, key=ApiKey.DESCRIBE_CLUSTER, versions=(0, 2), flexible=0):
    throttle_time_ms: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable=0)
    endpoint_type: int = int8(since=1, default=1)
    cluster_id: str = string()
    controller_id: int = int32(default=-1)
    brokers: list[DescribeClusterBroker] = array(DescribeClusterBroker)
    cluster_authorized_operations: int = int32(default=-2147483648)
