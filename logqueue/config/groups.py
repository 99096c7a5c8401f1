"""Broker settings of consumer groups and their offsets, with the names and defaults of Apache Kafka 4.2."""

from __future__ import annotations

from logqueue.config.properties import INT_MAX, ConfigType, Properties, setting


class GroupSettings(Properties):
    """How groups are coordinated."""

    offsets_topic_num_partitions: int = setting(
        50,
        "offsets.topic.num.partitions",
        ConfigType.INT,
        "Partitions of __consumer_offsets, fixed when it is created.",
        minimum=1,
        maximum=10_000,
    )
    offsets_topic_segment_bytes: int = setting(
        104_857_600, "offsets.topic.segment.bytes", ConfigType.INT, "Segment size of __consumer_offsets.", minimum=1
    )
    offsets_retention_minutes: int = setting(
        10_080, "offsets.retention.minutes", ConfigType.INT, "How long offsets of an empty group are kept.", minimum=1
    )
    offsets_retention_check_interval_ms: int = setting(
        600_000,
        "offsets.retention.check.interval.ms",
        ConfigType.LONG,
        "How often expired offsets are looked for.",
        minimum=1,
    )
    offset_metadata_max_bytes: int = setting(
        4096, "offset.metadata.max.bytes", ConfigType.INT, "Longest metadata of a committed offset.", minimum=0
    )
    group_min_session_timeout_ms: int = setting(
        6000,
        "group.min.session.timeout.ms",
        ConfigType.INT,
        "Shortest session timeout that a classic member may ask for.",
        minimum=0,
    )
    group_max_session_timeout_ms: int = setting(
        1_800_000,
        "group.max.session.timeout.ms",
        ConfigType.INT,
        "Longest session timeout that a classic member may ask for.",
        minimum=0,
    )
    group_initial_rebalance_delay_ms: int = setting(
        0,
        "group.initial.rebalance.delay.ms",
        ConfigType.INT,
        "Wait for more members before a new group's first rebalance (as in Kafka's shipped server.properties).",
        minimum=0,
    )
    group_max_size: int = setting(
        INT_MAX, "group.max.size", ConfigType.INT, "Most members of one classic group.", minimum=1
    )
    group_coordinator_rebalance_protocols: tuple[str, ...] = setting(
        (
            "classic",
            "consumer",
        ),
        "group.coordinator.rebalance.protocols",
        ConfigType.LIST,
        "Group protocols that are served.",
        choices=("classic", "consumer", "share", "streams"),
    )
    group_consumer_assignors: tuple[str, ...] = setting(
        (
            "uniform",
            "range",
        ),
        "group.consumer.assignors",
        ConfigType.LIST,
        "Server-side assignors of consumer groups; the first is the default (KIP-848).",
        choices=("uniform", "range"),
    )
    group_consumer_heartbeat_interval_ms: int = setting(
        5000,
        "group.consumer.heartbeat.interval.ms",
        ConfigType.INT,
        "Heartbeat interval that members of consumer groups are told (KIP-848).",
        minimum=1,
    )
    group_consumer_min_heartbeat_interval_ms: int = setting(
        5000,
        "group.consumer.min.heartbeat.interval.ms",
        ConfigType.INT,
        "Shortest heartbeat interval that a consumer group may be given.",
        minimum=1,
    )
    group_consumer_max_heartbeat_interval_ms: int = setting(
        15_000,
        "group.consumer.max.heartbeat.interval.ms",
        ConfigType.INT,
        "Longest heartbeat interval that a consumer group may be given.",
        minimum=1,
    )
    group_consumer_session_timeout_ms: int = setting(
        45_000,
        "group.consumer.session.timeout.ms",
        ConfigType.INT,
        "Silence after which a member of a consumer group is dropped (KIP-848).",
        minimum=1,
    )
    group_consumer_min_session_timeout_ms: int = setting(
        45_000,
        "group.consumer.min.session.timeout.ms",
        ConfigType.INT,
        "Shortest session timeout that a consumer group may be given.",
        minimum=1,
    )
    group_consumer_max_session_timeout_ms: int = setting(
        60_000,
        "group.consumer.max.session.timeout.ms",
        ConfigType.INT,
        "Longest session timeout that a consumer group may be given.",
        minimum=1,
    )
    group_consumer_max_size: int = setting(
        INT_MAX, "group.consumer.max.size", ConfigType.INT, "Most members of one consumer group.", minimum=1
    )
    group_consumer_migration_policy: str = setting(
        "bidirectional",
        "group.consumer.migration.policy",
        ConfigType.STRING,
        "How groups may move between the classic and the consumer protocol (KIP-848).",
        allows=lambda value: value.lower() in ("disabled", "downgrade", "upgrade", "bidirectional"),
        allowed="must be disabled, downgrade, upgrade or bidirectional",
    )
    group_consumer_regex_refresh_interval_ms: int = setting(
        600_000,
        "group.consumer.regex.refresh.interval.ms",
        ConfigType.INT,
        "How often regular expressions of subscriptions are resolved again at the latest (KIP-848).",
        minimum=10_000,
    )
