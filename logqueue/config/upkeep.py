"""Broker settings of retention, compaction and checkpoints, with the names and defaults of Apache Kafka 4.2."""

from __future__ import annotations

from logqueue.config.properties import ConfigType, Properties, Scope, setting


class UpkeepSettings(Properties):
    """What happens to logs in the background."""

    log_cleaner_enable: bool = setting(
        True, "log.cleaner.enable", ConfigType.BOOLEAN, "Whether compacted topics are compacted."
    )
    log_cleaner_threads: int = setting(
        1,
        "log.cleaner.threads",
        ConfigType.INT,
        "Threads that compact; with 0 nothing is compacted.",
        minimum=0,
        scope=Scope.CLUSTER,
    )
    log_cleaner_backoff_ms: int = setting(
        15_000,
        "log.cleaner.backoff.ms",
        ConfigType.LONG,
        "Wait of the cleaner when there is nothing to compact.",
        minimum=0,
        scope=Scope.CLUSTER,
    )
    log_cleaner_dedupe_buffer_size: int = setting(
        134_217_728,
        "log.cleaner.dedupe.buffer.size",
        ConfigType.LONG,
        "Memory for the keys of one compaction.",
        minimum=1,
        scope=Scope.CLUSTER,
    )
    log_cleaner_io_buffer_load_factor: float = setting(
        0.9,
        "log.cleaner.io.buffer.load.factor",
        ConfigType.DOUBLE,
        "Share of the memory for keys that may be filled.",
        scope=Scope.CLUSTER,
    )
    log_cleaner_io_buffer_size: int = setting(
        524_288,
        "log.cleaner.io.buffer.size",
        ConfigType.INT,
        "Bytes that the cleaner reads at once.",
        minimum=0,
        scope=Scope.CLUSTER,
    )
    log_cleaner_io_max_bytes_per_second: float = setting(
        1.7976931348623157e308,
        "log.cleaner.io.max.bytes.per.second",
        ConfigType.DOUBLE,
        "Bytes a second that compaction may read and write.",
        scope=Scope.CLUSTER,
    )
    log_retention_check_interval_ms: int = setting(
        300_000,
        "log.retention.check.interval.ms",
        ConfigType.LONG,
        "How often segments that are too old or too many are looked for.",
        minimum=1,
    )
    log_flush_offset_checkpoint_interval_ms: int = setting(
        60_000,
        "log.flush.offset.checkpoint.interval.ms",
        ConfigType.INT,
        "How often recovery points and log starts are written down.",
        minimum=0,
    )
