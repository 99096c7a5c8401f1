"""LeaveGroup (13): members go. v3+: several at once, static ones by instance id (KIP-345)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.protocol.messages.leave_group import LeaveGroupRequest

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: LeaveGroupRequest, slot: Slot) -> None:
    broker.groups.serve(broker.groups.coordinator.leave_group, request, slot)
