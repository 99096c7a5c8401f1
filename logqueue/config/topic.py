"""Configuration of one topic, with Kafka's names and defaults."""

from __future__ import annotations

from dataclasses import dataclass

from logqueue.config.properties import INT_MAX, LONG_MAX, ConfigType, Properties, setting


@dataclass(frozen=True, slots=True, kw_only=True)
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
        "Replicas that must have a record before acks=all answers.",
        minimum=1,
        maximum=INT_MAX,
        synonym="min.insync.replicas",
    )
    preallocate: bool = setting(
        False,
        "preallocate",
        ConfigType.BOOLEAN,
        "Whether a new segment file is preallocated.",
        synonym="log.preallocate",
    )
    retention_bytes: int = setting(
        -1,
        "retention.bytes",
        ConfigType.LONG,
        "Size above which old segments go (-1: none).",
        minimum=-1,
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
        "Whether a replica out of sync may lead; one node has only itself.",
        synonym="unclean.leader.election.enable",
    )
