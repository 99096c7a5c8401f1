"""Heartbeat (12): a member is alive, and hears whether the group is rebalancing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.protocol.messages.heartbeat import HeartbeatRequest

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: HeartbeatRequest, slot: Slot) -> None:
    broker.groups.serve(broker.groups.coordinator.heartbeat, request, slot)
