"""Configuration of the broker's process: the settings that have an effect, with Kafka's names where Kafka has one.

Names of Kafka that mean nothing here are in `kafka_only`; defaults of topics (`log.*`) are those of `LogConfig`.
"""

from __future__ import annotations

from pathlib import Path

from logqueue.config.groups import GroupSettings
from logqueue.config.network import NetworkSettings
from logqueue.config.process import ProcessSettings
from logqueue.config.properties import ConfigType, Properties, Scope, setting
from logqueue.config.security import SecurityConfig
from logqueue.config.transactions import TransactionSettings
from logqueue.config.upkeep import UpkeepSettings


class NodeSettings(Properties):
    """The node itself, its folder and its topics."""

    data_dir: Path = setting(
        Path("logqueue-data"),
        "log.dir",
        ConfigType.STRING,
        "Folder that holds everything.",
        convert=Path,
    )
    node_id: int = setting(1, "node.id", ConfigType.INT, "Id of the only broker.", minimum=0)
    fsync_acks_all: bool = setting(
        True,
        "logqueue.fsync.acks.all",
        ConfigType.BOOLEAN,
        "Whether acks=all answers only after fsync. Kafka has no such promise on one node.",
    )
    auto_create_topics_enable: bool = setting(
        True, "auto.create.topics.enable", ConfigType.BOOLEAN, "Whether metadata requests create topics."
    )
    delete_topic_enable: bool = setting(True, "delete.topic.enable", ConfigType.BOOLEAN, "Whether topics are deleted.")
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
        "Replicas of a topic created without a number. One node has one: with more, such topics are refused.",
        minimum=1,
    )
    message_max_bytes: int = setting(
        1_048_588,
        "message.max.bytes",
        ConfigType.INT,
        "Default of max.message.bytes.",
        minimum=0,
        scope=Scope.CLUSTER,
    )


class BrokerConfig(
    NodeSettings, NetworkSettings, SecurityConfig, GroupSettings, TransactionSettings, UpkeepSettings, ProcessSettings
):
    """Process-level configuration of the broker. Every field is read somewhere; secrets keep it from being printed."""
