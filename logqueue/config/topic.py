"""Configuration of one topic, with Kafka's names and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from logqueue.config.properties import INT_MAX, LONG_MAX, ConfigType, InvalidConfig, Properties, setting

GZIP_DEFAULT = -1
MIN_SEGMENT_BYTES = 1_048_576  # KIP-1030


def _are_throttled_replicas(value: tuple[str, ...]) -> bool:
    """`*`, or partition:broker pairs."""
    if value in ((), ("*",)):
        return True
    return all(part.partition(":")[0].isdigit() and part.partition(":")[2].isdigit() for part in value)


def _throttled(name: str, side: str) -> Any:
    return setting(
        (),
        name,
        ConfigType.LIST,
        f"Replicas throttled on the {side} side. Kept for Kafka's tools; one node replicates nothing.",
        allows=_are_throttled_replicas,
        allowed="wants '*' or partition:broker pairs",
        has_effect=False,
    )


class LogConfig(Properties):
    """Topic-level configuration (source: Kafka documentation, "Topic Configs"; defaults are Kafka's).

    Deliberate differences from Kafka are none here: durability of `acks=all` is the broker's promise
    (`logqueue.fsync.acks.all`), and `flush.messages`/`flush.ms` keep Kafka's meaning.
    """

    cleanup_policy: tuple[str, ...] = setting(
        ("delete",),
        "cleanup.policy",
        ConfigType.LIST,
        "What happens to old segments.",
        choices=("delete", "compact"),
        synonym="log.cleanup.policy",
    )
    compression_type: str = setting(
        "producer",
        "compression.type",
        ConfigType.STRING,
        "Codec of stored batches; 'producer' keeps what was sent.",
        choices=("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
        synonym="compression.type",
    )
    compression_gzip_level: int = setting(
        GZIP_DEFAULT,
        "compression.gzip.level",
        ConfigType.INT,
        "Level of gzip where the broker compresses (-1: the library's own).",
        minimum=-1,
        maximum=9,
        allows=bool,
        allowed="must be between 1 and 9, or -1",
        synonym="compression.gzip.level",
    )
    compression_lz4_level: int = setting(
        9,
        "compression.lz4.level",
        ConfigType.INT,
        "Level of lz4 where the broker compresses.",
        minimum=1,
        maximum=17,
        synonym="compression.lz4.level",
    )
    compression_zstd_level: int = setting(
        3,
        "compression.zstd.level",
        ConfigType.INT,
        "Level of zstd where the broker compresses.",
        minimum=-131_072,
        maximum=22,
        synonym="compression.zstd.level",
    )
    delete_retention_ms: int = setting(
        86_400_000,
        "delete.retention.ms",
        ConfigType.LONG,
        "How long tombstones of compacted topics are kept.",
        minimum=0,
        synonym="log.cleaner.delete.retention.ms",
    )
    file_delete_delay_ms: int = setting(
        60_000,
        "file.delete.delay.ms",
        ConfigType.LONG,
        "Wait before a deleted segment leaves the disk.",
        minimum=0,
        synonym="log.segment.delete.delay.ms",
    )
    follower_throttled_replicas: tuple[str, ...] = _throttled("follower.replication.throttled.replicas", "follower")
    leader_throttled_replicas: tuple[str, ...] = _throttled("leader.replication.throttled.replicas", "leader")
    flush_messages: int = setting(
        LONG_MAX,
        "flush.messages",
        ConfigType.LONG,
        "Records after which a flush is forced.",
        minimum=1,
        synonym="log.flush.interval.messages",
    )
    flush_ms: int = setting(
        LONG_MAX,
        "flush.ms",
        ConfigType.LONG,
        "Milliseconds after which a flush is forced.",
        minimum=0,
        synonym="log.flush.interval.ms",
    )
    index_interval_bytes: int = setting(
        4096,
        "index.interval.bytes",
        ConfigType.INT,
        "Bytes of log between two index entries.",
        minimum=0,
        maximum=INT_MAX,
        synonym="log.index.interval.bytes",
    )
    local_retention_bytes: int = setting(
        -2,
        "local.retention.bytes",
        ConfigType.LONG,
        "Local size of a tiered topic (-2: retention.bytes). Kept for Kafka's tools; there is no tiered storage here.",
        minimum=-2,
        synonym="log.local.retention.bytes",
        has_effect=False,
    )
    local_retention_ms: int = setting(
        -2,
        "local.retention.ms",
        ConfigType.LONG,
        "Local age of a tiered topic (-2: retention.ms). Kept for Kafka's tools; there is no tiered storage here.",
        minimum=-2,
        synonym="log.local.retention.ms",
        has_effect=False,
    )
    max_compaction_lag_ms: int = setting(
        LONG_MAX,
        "max.compaction.lag.ms",
        ConfigType.LONG,
        "Longest time a record stays uncompacted.",
        minimum=1,
        synonym="log.cleaner.max.compaction.lag.ms",
    )
    max_message_bytes: int = setting(
        1_048_588,
        "max.message.bytes",
        ConfigType.INT,
        "Largest record batch that is accepted.",
        minimum=0,
        maximum=INT_MAX,
        synonym="message.max.bytes",
    )
    message_timestamp_after_max_ms: int = setting(
        3_600_000,
        "message.timestamp.after.max.ms",
        ConfigType.LONG,
        "How far ahead a timestamp may be.",
        minimum=0,
        synonym="log.message.timestamp.after.max.ms",
    )
    message_timestamp_before_max_ms: int = setting(
        LONG_MAX,
        "message.timestamp.before.max.ms",
        ConfigType.LONG,
        "How far back a timestamp may be.",
        minimum=0,
        synonym="log.message.timestamp.before.max.ms",
    )
    message_timestamp_type: str = setting(
        "CreateTime",
        "message.timestamp.type",
        ConfigType.STRING,
        "Whose time a record carries.",
        choices=("CreateTime", "LogAppendTime"),
        synonym="log.message.timestamp.type",
    )
    min_cleanable_dirty_ratio: float = setting(
        0.5,
        "min.cleanable.dirty.ratio",
        ConfigType.DOUBLE,
        "Dirty share at which compaction may run.",
        minimum=0,
        maximum=1,
        synonym="log.cleaner.min.cleanable.ratio",
    )
    min_compaction_lag_ms: int = setting(
        0,
        "min.compaction.lag.ms",
        ConfigType.LONG,
        "Shortest time a record stays uncompacted.",
        minimum=0,
        synonym="log.cleaner.min.compaction.lag.ms",
    )
    min_insync_replicas: int = setting(
        1,
        "min.insync.replicas",
        ConfigType.INT,
        "Replicas that must have a record before acks=all answers. One node has one replica, which is all there are.",
        minimum=1,
        maximum=INT_MAX,
        synonym="min.insync.replicas",
        has_effect=False,
    )
    preallocate: bool = setting(
        False,
        "preallocate",
        ConfigType.BOOLEAN,
        "Whether a new segment file is preallocated. Kept for Kafka's tools; files here grow as they are written.",
        has_effect=False,
        synonym="log.preallocate",
    )
    remote_log_copy_disable: bool = setting(
        False,
        "remote.log.copy.disable",
        ConfigType.BOOLEAN,
        "Whether a tiered topic is no longer copied away. Kept for Kafka's tools; there is no tiered storage here.",
        has_effect=False,
    )
    remote_log_delete_on_disable: bool = setting(
        False,
        "remote.log.delete.on.disable",
        ConfigType.BOOLEAN,
        "Whether tiered data goes when tiering is disabled. Kept for Kafka's tools; there is no tiered storage here.",
        has_effect=False,
    )
    remote_storage_enable: bool = setting(
        False,
        "remote.storage.enable",
        ConfigType.BOOLEAN,
        "Whether a topic is tiered, which cannot be: there is no tiered storage here.",
        has_effect=False,
    )
    retention_bytes: int = setting(
        -1,
        "retention.bytes",
        ConfigType.LONG,
        "Size above which old segments go (-1: none).",
        synonym="log.retention.bytes",
    )
    retention_ms: int = setting(
        604_800_000,
        "retention.ms",
        ConfigType.LONG,
        "Age above which old segments go (-1: none).",
        minimum=-1,
        synonym="log.retention.ms",
    )
    segment_bytes: int = setting(
        1_073_741_824,
        "segment.bytes",
        ConfigType.INT,
        "Size at which a segment is rolled.",
        minimum=14,
        requested_minimum=MIN_SEGMENT_BYTES,
        maximum=INT_MAX,
        synonym="log.segment.bytes",
    )
    segment_index_bytes: int = setting(
        10_485_760,
        "segment.index.bytes",
        ConfigType.INT,
        "Largest size of an index file.",
        minimum=4,
        maximum=INT_MAX,
        synonym="log.index.size.max.bytes",
    )
    segment_jitter_ms: int = setting(
        0,
        "segment.jitter.ms",
        ConfigType.LONG,
        "Largest random time taken off segment.ms.",
        minimum=0,
        synonym="log.roll.jitter.ms",
    )
    segment_ms: int = setting(
        604_800_000,
        "segment.ms",
        ConfigType.LONG,
        "Age at which a segment is rolled.",
        minimum=1,
        synonym="log.roll.ms",
    )
    unclean_leader_election_enable: bool = setting(
        False,
        "unclean.leader.election.enable",
        ConfigType.BOOLEAN,
        "Whether a replica out of sync may lead. Kept for Kafka's tools; one node leads always.",
        synonym="unclean.leader.election.enable",
        has_effect=False,
    )
    internal_segment_bytes: int | None = setting(
        None,
        "internal.segment.bytes",
        ConfigType.INT,
        "Size at which a segment is rolled, for tests that need it below the least segment.bytes (as in Kafka).",
        minimum=14,
        is_internal=True,
    )

    @classmethod
    def _prepared(cls, properties: Mapping[str, str]) -> Mapping[str, str]:
        small = properties.get("internal.segment.bytes")
        return properties if small is None else {**properties, "segment.bytes": small}

    @classmethod
    def check_request(cls, properties: Mapping[str, str]) -> None:
        """Raise InvalidConfig unless a user may give a topic these settings; rules between settings included."""
        table = cls.properties()
        for name, text in properties.items():
            prop = table.get(name)
            if prop is None:
                raise InvalidConfig(f"Unknown topic config name: {name}")
            prop.check_request(text)
        if properties.get("remote.storage.enable", "false").strip().lower() == "true":
            raise InvalidConfig("Tiered Storage functionality is disabled in the broker. remote.storage.enable=true")

    def check(self) -> None:
        """Raise InvalidConfig where two settings contradict each other."""
        if self.min_compaction_lag_ms > self.max_compaction_lag_ms:
            raise InvalidConfig(
                f"conflict topic config setting min.compaction.lag.ms ({self.min_compaction_lag_ms}) > "
                f"max.compaction.lag.ms ({self.max_compaction_lag_ms})"
            )
