"""Configuration of the embedded broker's process, with Kafka's names where Kafka has one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from logqueue.config.properties import INT_MAX, ConfigType, setting
from logqueue.config.security import SecurityConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig(SecurityConfig):
    """Process-level configuration of the embedded broker, with Kafka's names where Kafka has one."""

    data_dir: Path = setting(
        None,
        "log.dir",
        ConfigType.STRING,
        "Folder that holds everything.",
        convert=Path,
        lazy=lambda: Path("logqueue-data"),
    )
    host: str = setting("127.0.0.1", "host.name", ConfigType.STRING, "Address to listen on and to advertise.")
    port: int = setting(
        9092, "port", ConfigType.INT, "Port to listen on; 0 takes any free one.", minimum=0, maximum=65_535
    )
    node_id: int = setting(1, "node.id", ConfigType.INT, "Id of the only broker.", minimum=0, maximum=INT_MAX)
    fsync_acks_all: bool = setting(
        True,
        "logqueue.fsync.acks.all",
        ConfigType.BOOLEAN,
        "Whether acks=all answers only after fsync. Kafka has no such promise on one node.",
    )
    auto_create_topics_enable: bool = setting(
        True, "auto.create.topics.enable", ConfigType.BOOLEAN, "Whether metadata requests create topics."
    )
    num_partitions: int = setting(
        1,
        "num.partitions",
        ConfigType.INT,
        "Partitions of a topic created without a number.",
        minimum=1,
        maximum=100_000,
    )
    default_replication_factor: int = setting(
        1,
        "default.replication.factor",
        ConfigType.INT,
        "Replicas of a new topic; one node has one.",
        minimum=1,
        maximum=1,
    )
    message_max_bytes: int = setting(
        1_048_588,
        "message.max.bytes",
        ConfigType.INT,
        "Default of max.message.bytes.",
        minimum=0,
        maximum=INT_MAX,
    )
    socket_request_max_bytes: int = setting(
        104_857_600,
        "socket.request.max.bytes",
        ConfigType.INT,
        "Largest request; a larger one ends its connection.",
        minimum=1,
        maximum=INT_MAX,
    )
    max_connections: int = setting(
        10_000,
        "max.connections",
        ConfigType.INT,
        "Connections above which new ones are refused.",
        minimum=1,
        maximum=INT_MAX,
    )
    connections_max_idle_ms: int = setting(
        600_000,
        "connections.max.idle.ms",
        ConfigType.LONG,
        "Idle time after which a connection is closed.",
        minimum=1_000,
    )
    queued_max_requests: int = setting(
        500,
        "queued.max.requests",
        ConfigType.INT,
        "Unanswered requests of one connection before it is not read.",
        minimum=1,
        maximum=INT_MAX,
    )
    fetch_max_bytes: int = setting(
        57_671_680,
        "fetch.max.bytes",
        ConfigType.INT,
        "Most bytes that one fetch answers.",
        minimum=1024,
        maximum=INT_MAX,
    )
    max_parked_fetches: int = setting(
        100_000,
        "logqueue.max.parked.fetches",
        ConfigType.INT,
        "Fetches that may wait at once; above it they are answered empty at once.",
        minimum=1,
        maximum=INT_MAX,
    )
    offsets_topic_num_partitions: int = setting(
        50,
        "offsets.topic.num.partitions",
        ConfigType.INT,
        "Partitions of __consumer_offsets.",
        minimum=1,
        maximum=10_000,
    )
    offsets_retention_minutes: int = setting(
        10_080,
        "offsets.retention.minutes",
        ConfigType.INT,
        "How long offsets of an empty group are kept.",
        minimum=1,
        maximum=INT_MAX,
    )
    offset_metadata_max_bytes: int = setting(
        4096,
        "offset.metadata.max.bytes",
        ConfigType.INT,
        "Longest metadata of a committed offset.",
        minimum=0,
        maximum=INT_MAX,
    )
    group_min_session_timeout_ms: int = setting(
        6_000,
        "group.min.session.timeout.ms",
        ConfigType.INT,
        "Shortest session timeout a member may ask for.",
        minimum=0,
        maximum=INT_MAX,
    )
    group_max_session_timeout_ms: int = setting(
        1_800_000,
        "group.max.session.timeout.ms",
        ConfigType.INT,
        "Longest session timeout a member may ask for.",
        minimum=0,
        maximum=INT_MAX,
    )
    group_initial_rebalance_delay_ms: int = setting(
        0,
        "group.initial.rebalance.delay.ms",
        ConfigType.INT,
        "Wait for more members before a new group's first rebalance (as in Kafka's shipped server.properties).",
        minimum=0,
        maximum=INT_MAX,
    )
    group_max_size: int = setting(
        INT_MAX, "group.max.size", ConfigType.INT, "Most members of one group.", minimum=1, maximum=INT_MAX
    )
    producer_id_expiration_ms: int = setting(
        86_400_000,
        "producer.id.expiration.ms",
        ConfigType.INT,
        "How long an idle producer id is remembered.",
        minimum=1,
        maximum=INT_MAX,
    )
