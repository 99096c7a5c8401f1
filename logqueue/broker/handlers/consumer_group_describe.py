"""ConsumerGroupDescribe (69): state, epochs and members of consumer groups (KIP-848); v1: which protocol they speak."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: ConsumerGroupDescribeRequest, slot: Slot) -> ConsumerGroupDescribeResponse | None:
    if not broker.serves_consumer_groups:
        code = ErrorCode.UNSUPPORTED_VERSION
        groups = [DescribedGroup(group_id=group_id, error_code=code) for group_id in request.group_ids]
        return ConsumerGroupDescribeResponse(groups=groups)
    broker.groups.serve(broker.groups.coordinator.describe_consumer_groups, request, slot)
    return None
