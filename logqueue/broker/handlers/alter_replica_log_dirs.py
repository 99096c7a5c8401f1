"""AlterReplicaLogDirs (34): there is one data folder, which everything is in already (KIP-113)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: AlterReplicaLogDirsRequest, slot: Slot) -> AlterReplicaLogDirsResponse:
    own = broker.config.data_dir.resolve()
    results: dict[str, list[AlterReplicaLogDirPartitionResult]] = {}
    for folder in request.dirs:
        is_own = _leads_to(own, folder.path)
        for topic in folder.topics:
            results.setdefault(topic.name, []).extend(
                AlterReplicaLogDirPartitionResult(
                    partition_index=index,
                    error_code=_judge(broker, topic.name, index) if is_own else ErrorCode.LOG_DIR_NOT_FOUND,
                )
                for index in topic.partitions
            )
    return AlterReplicaLogDirsResponse(
        results=[
            AlterReplicaLogDirTopicResult(topic_name=name, partitions=partitions)
            for name, partitions in results.items()
        ]
    )


def _leads_to(own: Path, path: str) -> bool:
    try:
        return Path(path).is_absolute() and Path(path).resolve() == own
    except (ValueError, RuntimeError):  # a null character; links that lead in a circle
        return False


def _judge(broker: Broker, name: str, index: int) -> ErrorCode:
    topic = broker.topics.by_name.get(name)
    is_here = topic is not None and 0 <= index < len(topic.partitions)
    return ErrorCode.NONE if is_here else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
