"""DescribeLogDirs (35): how much of the disk each partition takes (KIP-113). v4+: the disk's own sizes (KIP-827)."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: DescribeLogDirsRequest, slot: Slot) -> DescribeLogDirsResponse:
    disk = shutil.disk_usage(broker.config.data_dir)
    failure = broker.storage_failure
    result = DescribeLogDirsResult(
        error_code=ErrorCode.NONE if failure is None else failure.code,
        log_dir=str(broker.config.data_dir.resolve()),
        topics=_topics(broker, request),
        total_bytes=disk.total,
        usable_bytes=disk.free,
    )
    return DescribeLogDirsResponse(results=[result])


def _topics(broker: Broker, request: DescribeLogDirsRequest) -> list[DescribeLogDirsTopic]:
    wanted: dict[str, set[int] | None]
    if request.topics is None:
        wanted = dict.fromkeys(broker.topics.by_name)
    else:
        named: dict[str, set[int]] = {}
        for each in request.topics:  # one may be named twice, with other partitions
            named.setdefault(each.topic, set()).update(each.partitions)
        wanted = dict(named)
    answers = []
    for name, indexes in wanted.items():
        topic = broker.topics.by_name.get(name)
        if topic is None:
            continue
        sizes = [
            DescribeLogDirsPartition(partition_index=index, partition_size=partition.log.size)
            for index, partition in enumerate(topic.partitions)
            if indexes is None or index in indexes
        ]
        if sizes:
            answers.append(DescribeLogDirsTopic(name=name, partitions=sizes))
    return answers
