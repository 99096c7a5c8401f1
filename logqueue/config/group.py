"""Configuration of one consumer group, which overrides the broker's `group.*` (KIP-848, resource type GROUP)."""

from __future__ import annotations

from collections.abc import Mapping

from logqueue.config.broker import BrokerConfig
from logqueue.config.properties import ConfigType, InvalidConfig, Properties, setting

_UNSERVED = "Kept for Kafka's tools, without effect: share and streams groups are not served."


class GroupConfig(Properties):
    """Group-level settings; those of consumer groups default to the broker's."""

    consumer_session_timeout_ms: int = setting(
        45_000,
        "consumer.session.timeout.ms",
        ConfigType.INT,
        "Silence after which a member is dropped.",
        minimum=1,
        synonym="group.consumer.session.timeout.ms",
    )
    consumer_heartbeat_interval_ms: int = setting(
        5_000,
        "consumer.heartbeat.interval.ms",
        ConfigType.INT,
        "Heartbeat interval that members are told.",
        minimum=1,
        synonym="group.consumer.heartbeat.interval.ms",
    )
    share_session_timeout_ms: int = setting(
        45_000, "share.session.timeout.ms", ConfigType.INT, _UNSERVED, minimum=1, has_effect=False
    )
    share_heartbeat_interval_ms: int = setting(
        5_000, "share.heartbeat.interval.ms", ConfigType.INT, _UNSERVED, minimum=1, has_effect=False
    )
    share_record_lock_duration_ms: int = setting(
        30_000, "share.record.lock.duration.ms", ConfigType.INT, _UNSERVED, minimum=1_000, has_effect=False
    )
    share_auto_offset_reset: str = setting(
        "latest", "share.auto.offset.reset", ConfigType.STRING, _UNSERVED, has_effect=False
    )
    share_isolation_level: str = setting(
        "read_uncommitted",
        "share.isolation.level",
        ConfigType.STRING,
        _UNSERVED,
        choices=("read_committed", "read_uncommitted"),
        has_effect=False,
    )
    streams_session_timeout_ms: int = setting(
        45_000, "streams.session.timeout.ms", ConfigType.INT, _UNSERVED, minimum=1, has_effect=False
    )
    streams_heartbeat_interval_ms: int = setting(
        5_000, "streams.heartbeat.interval.ms", ConfigType.INT, _UNSERVED, minimum=1, has_effect=False
    )
    streams_num_standby_replicas: int = setting(
        0, "streams.num.standby.replicas", ConfigType.INT, _UNSERVED, minimum=0, has_effect=False
    )
    streams_initial_rebalance_delay_ms: int = setting(
        3_000, "streams.initial.rebalance.delay.ms", ConfigType.INT, _UNSERVED, minimum=0, has_effect=False
    )

    @classmethod
    def defaults(cls, broker: BrokerConfig) -> GroupConfig:
        """What a group without settings of its own has."""
        return cls(
            consumer_session_timeout_ms=broker.group_consumer_session_timeout_ms,
            consumer_heartbeat_interval_ms=broker.group_consumer_heartbeat_interval_ms,
        )

    @classmethod
    def of(cls, overrides: Mapping[str, str], broker: BrokerConfig) -> GroupConfig:
        """A group's configuration, within what the broker allows. Raises InvalidConfig."""
        known = cls.properties()
        for name in overrides:
            if name not in known:
                raise InvalidConfig(f"Unknown group config name: {name}")
        config = cls.from_properties(overrides, base=cls.defaults(broker))
        if "consumer.session.timeout.ms" in overrides:
            _check_between(
                "consumer.session.timeout.ms",
                config.consumer_session_timeout_ms,
                low=broker.group_consumer_min_session_timeout_ms,
                high=broker.group_consumer_max_session_timeout_ms,
            )
        if "consumer.heartbeat.interval.ms" in overrides:
            _check_between(
                "consumer.heartbeat.interval.ms",
                config.consumer_heartbeat_interval_ms,
                low=broker.group_consumer_min_heartbeat_interval_ms,
                high=broker.group_consumer_max_heartbeat_interval_ms,
            )
        if overrides and config.consumer_session_timeout_ms <= config.consumer_heartbeat_interval_ms:
            raise InvalidConfig("consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms")
        return config


def _check_between(name: str, value: int, *, low: int, high: int) -> None:
    """Raise InvalidConfig unless the broker's `group.<kind>.min/max.<rest>` allow the value."""
    kind, _, rest = name.partition(".")
    if value < low:
        raise InvalidConfig(f"{name} must be greater than or equal to group.{kind}.min.{rest}, which is {low}")
    if value > high:
        raise InvalidConfig(f"{name} must be less than or equal to group.{kind}.max.{rest}, which is {high}")
