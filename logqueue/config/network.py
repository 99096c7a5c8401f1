"""Broker settings of sockets and requests, with the names and defaults of Apache Kafka 4.2 where it has them."""

from __future__ import annotations

from logqueue.config.properties import INT_MAX, ConfigType, Properties, Scope, setting


class NetworkSettings(Properties):
    """Where the broker listens and what one connection may take."""

    host: str = setting("127.0.0.1", "host.name", ConfigType.STRING, "Address to listen on and to advertise.")
    port: int = setting(
        9092, "port", ConfigType.INT, "Port to listen on; 0 takes any free one.", minimum=0, maximum=65_535
    )
    socket_request_max_bytes: int = setting(
        104_857_600,
        "socket.request.max.bytes",
        ConfigType.INT,
        "Largest request; a larger one ends its connection.",
        minimum=1,
    )
    socket_send_buffer_bytes: int = setting(
        262_144,
        "socket.send.buffer.bytes",
        ConfigType.INT,
        "Send buffer of a connection (SO_SNDBUF); -1 leaves it to the system, whose buffers grow with the round trip.",
        minimum=-1,
    )
    max_connections: int = setting(
        10_000,
        "max.connections",
        ConfigType.INT,
        "Connections above which new ones are refused; fewer where the system lets the broker open too few files.",
        minimum=0,
        scope=Scope.CLUSTER,
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
    )
    fetch_max_bytes: int = setting(
        57_671_680, "fetch.max.bytes", ConfigType.INT, "Most bytes that one fetch answers.", minimum=1024
    )
    max_incremental_fetch_session_cache_slots: int = setting(
        1_000,
        "max.incremental.fetch.session.cache.slots",
        ConfigType.INT,
        "Fetch sessions that are remembered at once; 0 has every fetch name all its partitions.",
        minimum=0,
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
