"""DescribeGroups (15): state, protocol, members and assignments of groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.protocol.messages.describe_groups import DescribeGroupsRequest

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: DescribeGroupsRequest, slot: Slot) -> None:
    broker.groups.serve(broker.groups.coordinator.describe_groups, request, slot)
