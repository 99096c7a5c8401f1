"""OffsetCommit (8): positions become durable, then the answer leaves. v10: topic ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.protocol.messages.offset_commit import OffsetCommitRequest

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: OffsetCommitRequest, slot: Slot) -> None:
    broker.groups.serve(broker.groups.coordinator.commit_offsets, request, slot)
