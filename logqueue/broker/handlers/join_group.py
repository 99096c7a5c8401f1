"""JoinGroup (11): enter a group, wait for the others, learn the generation (KIP-394, KIP-345)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.protocol.messages.join_group import JoinGroupRequest

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: JoinGroupRequest, slot: Slot) -> None:
    broker.groups.serve(broker.groups.coordinator.join_group, request, slot)
