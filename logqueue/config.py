"""Frozen configurations with Kafka's own property names, and the tables they are described by.

One `Property` describes one setting: its Kafka name, type, default and meaning. `LogConfig` (per topic) and
`BrokerConfig` (per process) are built from text properties, so that a Kafka user finds what they know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any, Self

from logqueue.errors import ErrorCode, KafkaError

LONG_MAX = 2**63 - 1
INT_MAX = 2**31 - 1


class InvalidConfig(KafkaError):
    """A property that is unknown or whose value is not allowed; the text names it and what is allowed."""

    code = ErrorCode.INVALID_CONFIG


class ConfigType(Enum):
    """Value types as DescribeConfigs v3+ reports them (KIP-569)."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One setting: what Kafka calls it, what it may hold, and what it means."""

    name: str
    type: ConfigType
    doc: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None
    synonym: str | None = None  # the broker-wide property that a topic-level one falls back to

    def parse(self, text: str) -> Any:
        """Turn property text into a value, or raise InvalidConfig naming the property and what it allows."""
        try:
            value = _PARSERS[self.type](text.strip())
        except ValueError:
            raise InvalidConfig(
                f"Invalid value {text!r} for configuration {self.name}: not a {self.type.name.lower()}"
            ) from None
        self._check(value, text)
        return value

    def _check(self, value: Any, text: str) -> None:
        low, high = self.minimum, self.maximum
        if low is not None and value < low:
            raise InvalidConfig(f"Invalid value {text} for configuration {self.name}: must be at least {low:g}")
        if high is not None and value > high:
            raise InvalidConfig(f"Invalid value {text} for configuration {self.name}: must be at most {high:g}")
        chosen = value if isinstance(value, tuple) else (value,)
        if self.choices is not None and not set(chosen) <= set(self.choices):
            raise InvalidConfig(
                f"Invalid value {text} for configuration {self.name}: must be one of {', '.join(self.choices)}"
            )


def format_value(value: object) -> str:
    """Property text of a value, as Kafka prints it."""
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)


def _parse_bool(text: str) -> bool:
    match text.lower():
        case "true":
            return True
        case "false":
            return False
        case _:
            raise ValueError(text)


def _parse_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


_PARSERS: dict[ConfigType, Callable[[str], Any]] = {
    ConfigType.BOOLEAN: _parse_bool,
    ConfigType.STRING: str,
    ConfigType.INT: int,
    ConfigType.SHORT: int,
    ConfigType.LONG: int,
    ConfigType.DOUBLE: float,
    ConfigType.LIST: _parse_list,
}


def _setting(
    default: Any,
    name: str,
    type_: ConfigType,
    doc: str,
    *,
    lazy: Callable[[], Any] | None = None,
    **limits: Any,
) -> Any:
    metadata = {"property": Property(name=name, type=type_, doc=doc, **limits)}
    if lazy is not None:
        return field(default_factory=lazy, metadata=metadata)
    return field(default=default, metadata=metadata)


class _Properties:
    """What both configurations share: the table of their properties, parsing, and overriding."""

    __slots__ = ()

    @classmethod
    def properties(cls) -> dict[str, Property]:
        """The settings by Kafka name, in declaration order."""
        return {f.metadata["property"].name: f.metadata["property"] for f in fields(cls)}  # type: ignore[arg-type]

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], *, base: Self | None = None) -> Self:
        """Build from property text over `base` (default: the defaults); unknown names raise InvalidConfig."""
        values: dict[str, Any] = {}
        names = {f.metadata["property"].name: f for f in fields(cls)}  # type: ignore[arg-type]
        for f in names.values():
            if base is not None:
                values[f.name] = getattr(base, f.name)
        for name, text in properties.items():
            if name not in names:
                raise InvalidConfig(f"Unknown configuration {name}")
            values[names[name].name] = names[name].metadata["property"].parse(text)
        return cls(**values)

    def items(self) -> list[tuple[Property, Any]]:
        """Every property with its value here."""
        return [(f.metadata["property"], getattr(self, f.name)) for f in fields(self)]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig(_Properties):
    """Topic-level configuration (source: Kafka documentation, "Topic Configs"; defaults are Kafka's).

    Deliberate differences from Kafka are none here: durability of `acks=all` is the broker's promise
    (`logqueue.fsync.acks.all`), and `flush.messages`/`flush.ms` keep Kafka's meaning.
    """

    cleanup_policy: tuple[str, ...] = _setting(
        ("delete",),
        "cleanup.policy",
        ConfigType.LIST,
        "What happens to old segments.",
        choices=("delete", "compact"),
        synonym="log.cleanup.policy",
    )
    compression_type: str = _setting(
        "producer",
        "compression.type",
        ConfigType.STRING,
        "Codec of stored batches; 'producer' keeps what was sent.",
        choices=("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
        synonym="compression.type",
    )
    delete_retention_ms: int = _setting(
        86_400_000,
        "delete.retention.ms",
        ConfigType.LONG,
        "How long tombstones of compacted topics are kept.",
        minimum=0,
        synonym="log.cleaner.delete.retention.ms",
    )
    file_delete_delay_ms: int = _setting(
        60_000,
        "file.delete.delay.ms",
        ConfigType.LONG,
        "Wait before a deleted segment leaves the disk.",
        minimum=0,
        synonym="log.segment.delete.delay.ms",
    )
    flush_messages: int = _setting(
        LONG_MAX,
        "flush.messages",
        ConfigType.LONG,
        "Records after which a flush is forced.",
        minimum=1,
        synonym="log.flush.interval.messages",
    )
    flush_ms: int = _setting(
        LONG_MAX,
        "flush.ms",
        ConfigType.LONG,
        "Milliseconds after which a flush is forced.",
        minimum=0,
        synonym="log.flush.interval.ms",
    )
    index_interval_bytes: int = _setting(
        4096,
        "index.interval.bytes",
        ConfigType.INT,
        "Bytes of log between two index entries.",
        minimum=0,
        maximum=INT_MAX,
        synonym="log.index.interval.bytes",
    )
    max_compaction_lag_ms: int = _setting(
        LONG_MAX,
        "max.compaction.lag.ms",
        ConfigType.LONG,
        "Longest time a record stays uncompacted.",
        minimum=1,
        synonym="log.cleaner.max.compaction.lag.ms",
    )
    max_message_bytes: int = _setting(
        1_048_588,
        "max.message.bytes",
        ConfigType.INT,
        "Largest record batch that is accepted.",
        minimum=0,
        maximum=INT_MAX,
        synonym="message.max.bytes",
    )
    message_timestamp_after_max_ms: int = _setting(
        3_600_000,
        "message.timestamp.after.max.ms",
        ConfigType.LONG,
        "How far ahead a timestamp may be.",
        minimum=0,
        synonym="log.message.timestamp.after.max.ms",
    )
    message_timestamp_before_max_ms: int = _setting(
        LONG_MAX,
        "message.timestamp.before.max.ms",
        ConfigType.LONG,
        "How far back a timestamp may be.",
        minimum=0,
        synonym="log.message.timestamp.before.max.ms",
    )
    message_timestamp_type: str = _setting(
        "CreateTime",
        "message.timestamp.type",
        ConfigType.STRING,
        "Whose time a record carries.",
        choices=("CreateTime", "LogAppendTime"),
        synonym="log.message.timestamp.type",
    )
    min_cleanable_dirty_ratio: float = _setting(
        0.5,
        "min.cleanable.dirty.ratio",
        ConfigType.DOUBLE,
        "Dirty share at which compaction may run.",
        minimum=0,
        maximum=1,
        synonym="log.cleaner.min.cleanable.ratio",
    )
    min_compaction_lag_ms: int = _setting(
        0,
        "min.compaction.lag.ms",
        ConfigType.LONG,
        "Shortest time a record stays uncompacted.",
        minimum=0,
        synonym="log.cleaner.min.compaction.lag.ms",
    )
    min_insync_replicas: int = _setting(
        1,
        "min.insync.replicas",
        ConfigType.INT,
        "Replicas that must have a record before acks=all answers.",
        minimum=1,
        maximum=INT_MAX,
        synonym="min.insync.replicas",
    )
    preallocate: bool = _setting(
        False,
        "preallocate",
        ConfigType.BOOLEAN,
        "Whether a new segment file is preallocated.",
        synonym="log.preallocate",
    )
    retention_bytes: int = _setting(
        -1,
        "retention.bytes",
        ConfigType.LONG,
        "Size above which old segments go (-1: none).",
        minimum=-1,
        synonym="log.retention.bytes",
    )
    retention_ms: int = _setting(
        604_800_000,
        "retention.ms",
        ConfigType.LONG,
        "Age above which old segments go (-1: none).",
        minimum=-1,
        synonym="log.retention.ms",
    )
    segment_bytes: int = _setting(
        1_073_741_824,
        "segment.bytes",
        ConfigType.INT,
        "Size at which a segment is rolled.",
        minimum=14,
        maximum=INT_MAX,
        synonym="log.segment.bytes",
    )
    segment_index_bytes: int = _setting(
        10_485_760,
        "segment.index.bytes",
        ConfigType.INT,
        "Largest size of an index file.",
        minimum=4,
        maximum=INT_MAX,
        synonym="log.index.size.max.bytes",
    )
    segment_jitter_ms: int = _setting(
        0,
        "segment.jitter.ms",
        ConfigType.LONG,
        "Largest random time taken off segment.ms.",
        minimum=0,
        synonym="log.roll.jitter.ms",
    )
    segment_ms: int = _setting(
        604_800_000,
        "segment.ms",
        ConfigType.LONG,
        "Age at which a segment is rolled.",
        minimum=1,
        synonym="log.roll.ms",
    )
    unclean_leader_election_enable: bool = _setting(
        False,
        "unclean.leader.election.enable",
        ConfigType.BOOLEAN,
        "Whether a replica out of sync may lead; one node has only itself.",
        synonym="unclean.leader.election.enable",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig(_Properties):
    """Process-level configuration of the embedded broker, with Kafka's names where Kafka has one."""

    data_dir: Path = _setting(
        None,
        "log.dir",
        ConfigType.STRING,
        "Folder that holds everything.",
        lazy=lambda: Path("logqueue-data"),
    )
    host: str = _setting("127.0.0.1", "host.name", ConfigType.STRING, "Address to listen on and to advertise.")
    port: int = _setting(
        9092, "port", ConfigType.INT, "Port to listen on; 0 takes any free one.", minimum=0, maximum=65_535
    )
    node_id: int = _setting(1, "node.id", ConfigType.INT, "Id of the only broker.", minimum=0, maximum=INT_MAX)
    fsync_acks_all: bool = _setting(
        True,
        "logqueue.fsync.acks.all",
        ConfigType.BOOLEAN,
        "Whether acks=all answers only after fsync. Kafka has no such promise on one node.",
    )
    auto_create_topics_enable: bool = _setting(
        True, "auto.create.topics.enable", ConfigType.BOOLEAN, "Whether metadata requests create topics."
    )
    num_partitions: int = _setting(
        1,
        "num.partitions",
        ConfigType.INT,
        "Partitions of a topic created without a number.",
        minimum=1,
        maximum=100_000,
    )
    default_replication_factor: int = _setting(
        1,
        "default.replication.factor",
        ConfigType.INT,
        "Replicas of a new topic; one node has one.",
        minimum=1,
        maximum=1,
    )
    message_max_bytes: int = _setting(
        1_048_588,
        "message.max.bytes",
        ConfigType.INT,
        "Default of max.message.bytes.",
        minimum=0,
        maximum=INT_MAX,
    )
    socket_request_max_bytes: int = _setting(
        104_857_600,
        "socket.request.max.bytes",
        ConfigType.INT,
        "Largest request; a larger one ends its connection.",
        minimum=1,
        maximum=INT_MAX,
    )
    max_connections: int = _setting(
        10_000,
        "max.connections",
        ConfigType.INT,
        "Connections above which new ones are refused.",
        minimum=1,
        maximum=INT_MAX,
    )
    connections_max_idle_ms: int = _setting(
        600_000,
        "connections.max.idle.ms",
        ConfigType.LONG,
        "Idle time after which a connection is closed.",
        minimum=1_000,
    )
    queued_max_requests: int = _setting(
        500,
        "queued.max.requests",
        ConfigType.INT,
        "Unanswered requests of one connection before it is not read.",
        minimum=1,
        maximum=INT_MAX,
    )
    fetch_max_bytes: int = _setting(
        57_671_680,
        "fetch.max.bytes",
        ConfigType.INT,
        "Most bytes that one fetch answers.",
        minimum=1024,
        maximum=INT_MAX,
    )
    max_parked_fetches: int = _setting(
        100_000,
        "logqueue.max.parked.fetches",
        ConfigType.INT,
        "Fetches that may wait at once; above it they are answered empty at once.",
        minimum=1,
        maximum=INT_MAX,
    )
    offsets_topic_num_partitions: int = _setting(
        50,
        "offsets.topic.num.partitions",
        ConfigType.INT,
        "Partitions of __consumer_offsets.",
        minimum=1,
        maximum=10_000,
    )
    offsets_retention_minutes: int = _setting(
        10_080,
        "offsets.retention.minutes",
        ConfigType.INT,
        "How long offsets of an empty group are kept.",
        minimum=1,
        maximum=INT_MAX,
    )
    offset_metadata_max_bytes: int = _setting(
        4096,
        "offset.metadata.max.bytes",
        ConfigType.INT,
        "Longest metadata of a committed offset.",
        minimum=0,
        maximum=INT_MAX,
    )
    group_min_session_timeout_ms: int = _setting(
        6_000,
        "group.min.session.timeout.ms",
        ConfigType.INT,
        "Shortest session timeout a member may ask for.",
        minimum=0,
        maximum=INT_MAX,
    )
    group_max_session_timeout_ms: int = _setting(
        1_800_000,
        "group.max.session.timeout.ms",
        ConfigType.INT,
        "Longest session timeout a member may ask for.",
        minimum=0,
        maximum=INT_MAX,
    )
    group_initial_rebalance_delay_ms: int = _setting(
        0,
        "group.initial.rebalance.delay.ms",
        ConfigType.INT,
        "Wait for more members before a new group's first rebalance (as in Kafka's shipped server.properties).",
        minimum=0,
        maximum=INT_MAX,
    )
    group_max_size: int = _setting(
        INT_MAX, "group.max.size", ConfigType.INT, "Most members of one group.", minimum=1, maximum=INT_MAX
    )
    producer_id_expiration_ms: int = _setting(
        86_400_000,
        "producer.id.expiration.ms",
        ConfigType.INT,
        "How long an idle producer id is remembered.",
        minimum=1,
        maximum=INT_MAX,
    )
