"""The topics as requests see them: by name and by id, created and deleted. Knows no wire format."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from logqueue.broker.partitions.partition import Partition
from logqueue.config import LogConfig
from logqueue.errors import ErrorCode, KafkaError
from logqueue.ids import TopicPartition
from logqueue.storage.errors import InvalidPartitions, InvalidTopic, UnknownTopic
from logqueue.storage.topic_rules import check_free, check_name, check_partitions, shown

if TYPE_CHECKING:
    from logqueue.config import BrokerConfig
    from logqueue.storage.log_directory import LogDirectory

log = logging.getLogger("logqueue.broker.partitions.topics")

CONSUMER_OFFSETS = "__consumer_offsets"
TRANSACTION_STATE = "__transaction_state"
INTERNAL_TOPICS = frozenset({CONSUMER_OFFSETS, TRANSACTION_STATE})


class Topic:
    """A topic with its partitions; `overrides` are the settings that are its own, as text."""

    __slots__ = ("config", "id", "is_internal", "name", "overrides", "partitions")

    def __init__(self, name: str, topic_id: bytes, config: LogConfig, overrides: Mapping[str, str]) -> None:
        self.name = name
        self.id = topic_id
        self.is_internal = name in INTERNAL_TOPICS
        self.config = config
        self.overrides = overrides
        self.partitions: list[Partition] = []


class Topics:
    """Every topic of the broker. All changes are durable when the call returns."""

    def __init__(self, directory: LogDirectory, config: BrokerConfig, log_defaults: LogConfig) -> None:
        self.by_name: dict[str, Topic] = {}
        self.by_id: dict[bytes, Topic] = {}
        self.version = 0  # counts topics created, grown and deleted
        self._directory = directory
        self._config = config
        self._log_defaults = log_defaults
        for name in directory.topics:
            self._open(name)

    def configure(self, config: BrokerConfig, log_defaults: LogConfig) -> None:
        """Use other settings of the broker; topics follow in what they do not set themselves."""
        self._config = config
        if log_defaults != self._log_defaults:
            self._log_defaults = log_defaults
            self._directory.configure(log_defaults)
            for topic in self.by_name.values():
                self._follow(topic)

    def get(self, name: str) -> Topic:
        """The topic, or UnknownTopic."""
        topic = self.by_name.get(name)
        if topic is None:
            raise UnknownTopic(f"This server does not host topic {shown(name)!r}.")
        return topic

    def partition(self, name: str, index: int) -> Partition:
        """The partition, or UnknownTopic."""
        topic = self.by_name.get(name)
        if topic is None or not 0 <= index < len(topic.partitions):
            raise UnknownTopic(f"This server does not host partition {index} of topic {shown(name)!r}.")
        return topic.partitions[index]

    def create(self, name: str, *, partitions: int, overrides: Mapping[str, str], validate_only: bool = False) -> Topic:
        """Create a topic. Raises InvalidTopic, TopicExists, InvalidPartitions or InvalidConfig.

        An internal one gets the settings that its coordinator needs, where `overrides` have no other.
        """
        self.check_new(name)
        check_partitions(partitions, more_than=0)
        if name in INTERNAL_TOPICS:
            if partitions != (count := self.default_partitions(name)):
                raise InvalidPartitions(
                    f"Topic {name} is internal and has {count} partitions, not {partitions}: "
                    "where it keeps something depends on them."
                )
            overrides = self._own_settings(name) | dict(overrides)
        else:
            self._check_room(partitions)
        config = self._configured(overrides)
        if validate_only:
            return Topic(name, os.urandom(16), config, overrides)  # Kafka tells an id here, too
        self._directory.create_topic(name, partitions=partitions, properties=overrides)
        log.info("created topic %s with %d partition(s)", name, partitions)
        return self._open(name)

    def check_new(self, name: str) -> None:
        """Raise InvalidTopic or TopicExists unless a topic of this name could be created."""
        check_name(name)
        check_free(name, self.by_name)

    def check_overrides(self, overrides: Mapping[str, str]) -> None:
        """Raise InvalidConfig unless a topic could have these settings."""
        self._configured(overrides)

    def auto_create(self, name: str, *, may_create: bool) -> Topic:
        """The topic that a client asked for and that is not there: created if client and broker allow it."""
        if name in INTERNAL_TOPICS:
            return self.ensure_offsets_topic() if name == CONSUMER_OFFSETS else self.ensure_transactions_topic()
        check_name(name)
        if not (may_create and self._config.auto_create_topics_enable):
            raise UnknownTopic(f"This server does not host topic {name!r}.")
        if self._config.default_replication_factor != 1:
            raise KafkaError(
                f"default.replication.factor is {self._config.default_replication_factor}, and there is one broker",
                code=ErrorCode.INVALID_REPLICATION_FACTOR,
            )
        return self.create(name, partitions=self._config.num_partitions, overrides={})

    def ensure_offsets_topic(self) -> Topic:
        """`__consumer_offsets`, created at its first use."""
        return self.by_name.get(CONSUMER_OFFSETS) or self._create_internal(CONSUMER_OFFSETS)

    def ensure_transactions_topic(self) -> Topic:
        """`__transaction_state`, created at its first use."""
        return self.by_name.get(TRANSACTION_STATE) or self._create_internal(TRANSACTION_STATE)

    def _create_internal(self, name: str) -> Topic:
        return self.create(name, partitions=self.default_partitions(name), overrides={})

    def default_partitions(self, name: str) -> int:
        """How many partitions a topic gets where nobody says a number; an internal one can have no other."""
        if name == CONSUMER_OFFSETS:
            return self._config.offsets_topic_num_partitions
        if name == TRANSACTION_STATE:
            return self._config.transaction_state_log_num_partitions
        return self._config.num_partitions

    def _own_settings(self, name: str) -> dict[str, str]:
        """What an internal topic sets itself, as Kafka's coordinators have it."""
        config = self._config
        if name == CONSUMER_OFFSETS:
            compression, segment_bytes = "producer", config.offsets_topic_segment_bytes
        else:
            compression, segment_bytes = "uncompressed", config.transaction_state_log_segment_bytes
        return {"cleanup.policy": "compact", "compression.type": compression, "segment.bytes": str(segment_bytes)}

    def grow(self, topic: Topic, count: int, *, validate_only: bool = False) -> None:
        """Give a topic partitions up to `count`. Raises InvalidPartitions."""
        if topic.is_internal:
            raise InvalidTopic(f"Topic {topic.name} is internal: where it keeps a group depends on its partitions.")
        present = len(topic.partitions)
        if count <= present:
            raise InvalidPartitions(
                f"Topic currently has {present} partitions, which is higher than the requested {count}."
                if count < present
                else f"Topic already has {present} partitions."
            )
        check_partitions(count, more_than=present)
        self._check_room(count - present)
        if not validate_only:
            self._directory.create_partitions(topic.name, count)
            self._open_partitions(topic)

    def set_overrides(self, topic: Topic, overrides: Mapping[str, str], *, validate_only: bool = False) -> None:
        """Replace the settings of a topic that are its own. Raises InvalidConfig."""
        self._configured(overrides)
        if validate_only:
            return
        self._directory.alter_topic(topic.name, overrides)
        self._follow(topic)

    def _follow(self, topic: Topic) -> None:
        """Take over the settings of a topic as they are stored."""
        stored = self._directory.topics[topic.name]
        topic.config = stored.config
        topic.overrides = stored.properties
        for partition in topic.partitions:
            partition.config = stored.config

    def delete(self, topic: Topic) -> None:
        """Delete a topic; fetches parked at it are answered with its absence."""
        if topic.is_internal:
            raise InvalidTopic(f"Topic {topic.name} is internal and is not deleted.")
        self._directory.delete_topic(topic.name)
        del self.by_name[topic.name]
        del self.by_id[topic.id]
        self.version += 1
        log.info("deleted topic %s", topic.name)
        for partition in topic.partitions:
            partition.wake_all()

    def _open(self, name: str) -> Topic:
        stored = self._directory.topics[name]
        topic = Topic(name, stored.topic_id.bytes, stored.config, stored.properties)
        self._open_partitions(topic)
        self.by_name[name] = topic
        self.by_id[topic.id] = topic
        return topic

    def _open_partitions(self, topic: Topic) -> None:
        self.version += 1
        for index in range(len(topic.partitions), self._directory.topics[topic.name].partitions):
            stored = self._directory.logs[TopicPartition(topic.name, index)]
            topic.partitions.append(Partition(stored.partition, stored, topic.config, is_internal=topic.is_internal))

    def _configured(self, overrides: Mapping[str, str]) -> LogConfig:
        config = LogConfig.from_properties(overrides, base=self._log_defaults)
        config.check()
        return config

    def _check_room(self, more: int) -> None:
        present, most = len(self._directory.logs), self._config.max_partitions
        if present + more > most:
            raise InvalidPartitions(
                f"{present} partitions and {more} more are beyond logqueue.max.partitions, which is {most}."
            )
