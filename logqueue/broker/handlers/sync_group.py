"""SyncGroup (14): the leader hands in the assignment, everyone gets theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.protocol.messages.sync_group import SyncGroupRequest

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: SyncGroupRequest, slot: Slot) -> None:
    broker.groups.serve(broker.groups.coordinator.sync_group, request, slot)
