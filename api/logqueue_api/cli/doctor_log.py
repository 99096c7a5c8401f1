"""What a running broker can tell a doctor: its settings, and how far its groups are from losing records."""

from __future__ import annotations

import time
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from logqueue.broker.doctor.durability import BEHIND_SHARE, Reader, judge_broker_settings, judge_readers
from logqueue.broker.doctor.finding import Finding, ok
from logqueue_api.cli.kafka import Log
from logqueue_api.cli.stack import Stack


async def ask(stack: Stack, folder: Path) -> list[Finding]:
    """Everything that the broker is asked. Raises CommandError if it does not answer."""
    async with Log(stack) as log:
        started = time.monotonic()
        settings = await _broker_settings(log)
        findings = [ok("broker", f"{stack.bootstrap} answered within {(time.monotonic() - started) * 1000:.0f} ms")]
        findings += judge_broker_settings(settings)
        findings += judge_readers(await _readers(log, folder))
        return findings


async def _broker_settings(log: Log) -> dict[str, str | None]:
    node = log.admin._client.cluster.controller
    name = str(node.nodeId) if node is not None else "1"
    answers = await log.admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, name)])
    return {entry[0]: entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}


async def _readers(log: Log, folder: Path) -> list[Reader]:
    topics = await log.topics()
    now_ms = round(time.time() * 1000)
    limits = {topic: await _limits(log, topic) for topic in topics}
    readers = []
    for group, *_ in await log.admin.list_consumer_groups():
        committed = {p: c.offset for p, c in (await log.offsets(group)).items() if p.topic in topics}
        if not committed:
            continue
        partitions = list(committed)
        starts, ends = await log.bounds(partitions)
        aged = await _aged_ends(log, partitions, limits, now_ms)
        for partition, offset in committed.items():
            retention_ms, retention_bytes = limits[partition.topic]
            readers.append(
                Reader(
                    group=group,
                    topic=partition.topic,
                    partition=partition.partition,
                    committed=offset,
                    start=starts[partition],
                    end=ends[partition],
                    aged_end=aged.get(partition, ends[partition]),
                    retention_ms=retention_ms,
                    size=_size(folder / f"{partition.topic}-{partition.partition}"),
                    retention_bytes=retention_bytes,
                )
            )
    return readers


async def _limits(log: Log, topic: str) -> tuple[int, int]:
    """retention.ms and retention.bytes; -1 for both where nothing is deleted."""
    values = {entry["name"]: entry["value"] for entry in await log.configs(topic)}
    if "delete" not in (values.get("cleanup.policy") or "").split(","):
        return -1, -1
    return int(values.get("retention.ms") or -1), int(values.get("retention.bytes") or -1)


async def _aged_ends(
    log: Log, partitions: list[TopicPartition], limits: dict[str, tuple[int, int]], now_ms: int
) -> dict[TopicPartition, int]:
    """First offset younger than most of the retention, where there is one."""
    asked = {
        partition: round(now_ms - BEHIND_SHARE * limits[partition.topic][0])
        for partition in partitions
        if limits[partition.topic][0] >= 0
    }
    found = await log.consumer.offsets_for_times(asked) if asked else {}
    return {partition: place.offset for partition, place in found.items() if place is not None}


def _size(folder: Path) -> int:
    """Bytes of a partition's segments, if its folder is on this machine; else 0, which no limit is compared with."""
    return sum(path.stat().st_size for path in folder.glob("*.log")) if folder.is_dir() else 0
