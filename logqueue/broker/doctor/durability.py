"""Settings that endanger what a log promises: known from a file, a folder, or a running broker. Does no IO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from logqueue.broker.doctor.finding import Finding, ok, problem, warning

HOUR_MS = 3_600_000
BEHIND_SHARE = 0.75  # of the retention: a group that reads older records than that is about to lose some


def judge_broker_settings(settings: Mapping[str, str | None]) -> Iterator[Finding]:
    """The broker's settings by Kafka name, as text."""
    found = list(_broker_dangers(settings))
    yield from found
    if not found:
        yield ok("settings", "nothing that endangers durability")


def _broker_dangers(settings: Mapping[str, str | None]) -> Iterator[Finding]:
    if settings.get("logqueue.fsync.acks.all") == "false":
        text = "logqueue.fsync.acks.all=false: acks=all is answered before the disk has it"
        yield warning("settings", text, "a power cut may lose acknowledged jobs; leave it out where they matter")
    if settings.get("auto.create.topics.enable") == "true" and (settings.get("num.partitions") or "1") == "1":
        retention = settings.get("log.retention.ms")
        if retention is not None and 0 <= int(retention) < HOUR_MS:
            text = f"topics that appear by themselves forget records after {int(retention) / 1000:g} s"
            yield warning("settings", text, "raise log.retention.ms, or create topics with settings of their own")
    if settings.get("log.cleaner.enable") == "false" or settings.get("log.cleaner.threads") == "0":
        yield warning("settings", "compaction is off: compacted topics only grow", "set log.cleaner.enable=true")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How far a group is in a partition, next to what the partition keeps; times in ms, sizes in bytes.

    `aged_end` is the first offset that is younger than `BEHIND_SHARE` of the retention; None if nothing is that old.
    """

    group: str
    topic: str
    partition: int
    committed: int
    start: int
    end: int
    aged_end: int | None = None
    retention_ms: int = -1
    size: int = 0
    retention_bytes: int = -1


def judge_readers(readers: list[Reader]) -> Iterator[Finding]:
    """Whether records are removed before their groups have read them."""
    found = [finding for reader in readers if (finding := _judge_reader(reader)) is not None]
    yield from found
    if not found:
        yield ok("groups", f"{len({reader.group for reader in readers})} group(s), none about to lose records")


def _judge_reader(reader: Reader) -> Finding | None:
    where = f"group {reader.group} in {reader.topic}-{reader.partition}"
    if reader.committed < reader.start:
        return problem(
            "groups",
            f"{where} has lost {reader.start - reader.committed} records: they were removed before they were read",
            "raise retention.ms or retention.bytes, or add consumers",
        )
    if reader.committed >= reader.end:
        return None
    behind = f"{where} is {reader.end - reader.committed} records behind"
    hint = "raise retention.ms or retention.bytes of the topic, or add consumers"
    if reader.retention_ms >= 0 and reader.aged_end is not None and reader.committed < reader.aged_end:
        hours = reader.retention_ms / HOUR_MS
        return warning("groups", f"{behind}, and they are about to be older than retention.ms ({hours:g} h)", hint)
    is_nearly_full = reader.retention_bytes >= 0 and reader.size > BEHIND_SHARE * reader.retention_bytes
    read = reader.committed - reader.start
    if is_nearly_full and read < (1 - BEHIND_SHARE) * (reader.end - reader.start):
        return warning("groups", f"{behind}, and the oldest records are about to be beyond retention.bytes", hint)
    return None
