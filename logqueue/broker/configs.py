"""Settings as the admin APIs see them: entries with their sources, and changes to topics. Knows no wire format."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from logqueue.config import ConfigType, InvalidConfig, LogConfig, Property, format_value
from logqueue.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.broker.topics import Topic


class ResourceType(IntEnum):
    """Kinds of things that have settings (Kafka's ConfigResource.Type)."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class Source(IntEnum):
    """Where a value comes from (KIP-226)."""

    TOPIC = 1
    BROKER = 4
    DEFAULT = 5


class Operation(IntEnum):
    """What an incremental change does (KIP-339)."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class Synonym(NamedTuple):
    """One of the places a value could come from, the first being the one it does come from."""

    name: str
    value: str
    source: Source


class Change(NamedTuple):
    """One change to one setting; `operation` is what the client sent and may be unknown."""

    name: str
    operation: int
    value: str | None

    @classmethod
    def set(cls, name: str, value: str | None) -> Change:
        """Set a value; without one, go back to the default."""
        return cls(name, Operation.DELETE if value is None else Operation.SET, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigEntry:
    """One setting with its present value."""

    name: str
    value: str
    type: ConfigType
    doc: str
    is_read_only: bool
    synonyms: list[Synonym] = field(default_factory=list)

    @property
    def source(self) -> Source:
        return self.synonyms[0].source


def describe_topic(broker: Broker, topic: Topic) -> list[ConfigEntry]:
    """Every setting of a topic."""
    entries = []
    defaults = {prop.name: value for prop, value in LogConfig().items()}
    inherited = {prop.name: value for prop, value in broker.log_defaults.items()}
    for prop, value in topic.config.items():
        synonyms = _broker_synonyms(prop, inherited[prop.name], defaults[prop.name])
        if prop.name in topic.overrides:
            synonyms.insert(0, Synonym(prop.name, format_value(value), Source.TOPIC))
        entries.append(_entry(prop.name, prop, value, synonyms, is_read_only=False))
    return entries


def describe_broker(broker: Broker, name: str) -> list[ConfigEntry]:
    """Every setting of the broker; of the empty name (the cluster's dynamic defaults), of which there are none."""
    if name == "":
        return []
    if name != str(broker.node_id):
        raise KafkaError(
            f"Unexpected broker id, expected {broker.node_id}, but received {name}", code=ErrorCode.INVALID_REQUEST
        )
    entries = []
    defaults = {prop.name: value for prop, value in type(broker.config)().items()}
    for prop, value in broker.config.items():
        synonyms = _broker_synonyms(prop, value, defaults[prop.name])
        entries.append(_entry(prop.name, prop, value, synonyms, is_read_only=True))
    log_defaults = {prop.name: value for prop, value in LogConfig().items()}
    named = {entry.name for entry in entries}
    for prop, value in broker.log_defaults.items():
        if prop.synonym is not None and prop.synonym not in named:
            synonyms = _broker_synonyms(prop, value, log_defaults[prop.name])
            entries.append(_entry(prop.synonym, prop, value, synonyms, is_read_only=True))
    return entries


def alter_topic(broker: Broker, name: str, changes: Iterable[Change], *, validate_only: bool) -> None:
    """Apply incremental changes to a topic's settings, all or none. Raises KafkaError."""
    topic = broker.topics.get(name)
    overrides = dict(topic.overrides)
    for change in changes:
        _apply(topic, overrides, change)
    broker.topics.set_overrides(topic, overrides, validate_only=validate_only)


def replace_topic(broker: Broker, name: str, changes: Iterable[Change], *, validate_only: bool) -> None:
    """Make these the only settings of a topic. Raises KafkaError."""
    topic = broker.topics.get(name)
    overrides = {change.name: change.value for change in changes if change.value is not None}
    broker.topics.set_overrides(topic, overrides, validate_only=validate_only)


def refuse_broker_change(changes: Iterable[Change]) -> None:
    """The broker's own settings are those it was started with."""
    names = ", ".join(sorted(change.name for change in changes))
    raise KafkaError(
        f"Cannot update these configs dynamically: {names}; start the broker with --override instead",
        code=ErrorCode.INVALID_REQUEST,
    )


def _apply(topic: Topic, overrides: dict[str, str], change: Change) -> None:
    prop = LogConfig.properties().get(change.name)
    if prop is None:
        raise InvalidConfig(f"Unknown topic config name: {change.name}")
    match change.operation:
        case Operation.DELETE:
            overrides.pop(change.name, None)
        case Operation.SET if change.value is not None:
            overrides[change.name] = change.value
        case Operation.APPEND | Operation.SUBTRACT if change.value is not None and prop.type is ConfigType.LIST:
            overrides[change.name] = _edit_list(topic, overrides, prop, change)
        case Operation.APPEND | Operation.SUBTRACT:
            raise InvalidConfig(f"Config value append is not allowed for config key: {change.name}")
        case Operation.SET:
            raise KafkaError(f"Null value not supported for : {change.name}", code=ErrorCode.INVALID_REQUEST)
        case operation:
            raise KafkaError(f"Unknown operation type {operation} for {change.name}", code=ErrorCode.INVALID_REQUEST)


def _edit_list(topic: Topic, overrides: dict[str, str], prop: Property, change: Change) -> str:
    present = overrides.get(prop.name)
    if present is None:
        present = next(format_value(value) for candidate, value in topic.config.items() if candidate.name == prop.name)
    items = [item for item in present.split(",") if item]
    named = [item.strip() for item in (change.value or "").split(",") if item.strip()]
    if change.operation == Operation.APPEND:
        return ",".join(items + [item for item in named if item not in items])
    return ",".join(item for item in items if item not in named)


def _broker_synonyms(prop: Property, value: object, default: object) -> list[Synonym]:
    name = prop.synonym or prop.name
    synonyms = [Synonym(name, format_value(default), Source.DEFAULT)]
    if value != default:
        synonyms.insert(0, Synonym(name, format_value(value), Source.BROKER))
    return synonyms


def _entry(name: str, prop: Property, value: object, synonyms: list[Synonym], *, is_read_only: bool) -> ConfigEntry:
    return ConfigEntry(
        name=name,
        value=format_value(value),
        type=prop.type,
        doc=prop.doc,
        is_read_only=is_read_only,
        synonyms=synonyms,
    )
