"""Settings as the admin APIs show them: entries with their sources and synonyms. Knows no wire format.

Which names a setting is looked for under, and in which order sources count, is Kafka's: the broker's own dynamic
value, the cluster's dynamic default, the value the broker was started with, the default (KIP-226).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from logqueue.broker.settings.dynamic import BROKER, CLUSTER_NAME, GROUP
from logqueue.config import ConfigType, LogConfig, Property, format_value
from logqueue.config.catalogue import ALIASES, definition, definitions, fallbacks
from logqueue.config.properties import Scope
from logqueue.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.broker.partitions.topics import Topic


_INT_DIGITS = 10  # of Java's INT


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
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT = 3
    STATIC = 4
    DEFAULT = 5
    LOGGER = 6
    GROUP = 8


class Synonym(NamedTuple):
    """One of the places a value could come from, the first being the one it does come from."""

    name: str
    value: str | None
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigEntry:
    """One setting with its present value; None if it has none, or if it is a secret."""

    name: str
    value: str | None
    type: ConfigType | None
    doc: str
    is_read_only: bool
    is_sensitive: bool = False
    source: Source = Source.DEFAULT
    synonyms: list[Synonym] = field(default_factory=list)


def describe_topic(broker: Broker, topic: Topic) -> list[ConfigEntry]:
    """Every setting of a topic."""
    entries = []
    for prop, value in topic.config.items():
        if prop.is_internal:
            continue
        synonyms = [] if prop.synonym is None else broker_synonyms(broker, prop.synonym)
        if prop.name in topic.overrides:
            synonyms.insert(0, Synonym(prop.name, format_value(value), Source.TOPIC))
        entries.append(_entry(prop.name, prop, format_value(value), synonyms))
    return entries


def describe_broker(broker: Broker, name: str) -> list[ConfigEntry]:
    """Every setting of the broker; of the empty name, the dynamic defaults of the cluster. Raises KafkaError."""
    if name == CLUSTER_NAME:
        names = list(broker.dynamic.of(BROKER, CLUSTER_NAME))
        return [_cluster_entry(broker, each) for each in names]
    check_broker_name(broker, name)
    shown = [key for key, known in definitions().items() if not known.property.is_internal]
    own, of_cluster = broker.dynamic.of(BROKER, str(broker.node_id)), broker.dynamic.of(BROKER, CLUSTER_NAME)
    return [_broker_entry(broker, each) for each in dict.fromkeys([*shown, *own, *of_cluster])]


def describe_group(broker: Broker, name: str) -> list[ConfigEntry]:
    """Every setting of a group, whether it exists or not. Raises KafkaError."""
    if not name:
        raise KafkaError("Group name must not be empty", code=ErrorCode.INVALID_REQUEST)
    own = broker.dynamic.of(GROUP, name)
    entries = []
    for prop, value in broker.group_config(name).items():
        text = format_value(value)
        source = Source.GROUP if prop.name in own else Source.DEFAULT
        entries.append(_entry(prop.name, prop, text, [Synonym(prop.name, text, source)]))
    return entries


def is_node_id(name: str) -> bool:
    """Whether a name is a number that could be a node's: Python would refuse to read one of thousands of digits."""
    return name.isdecimal() and len(name) <= _INT_DIGITS


def check_broker_name(broker: Broker, name: str) -> None:
    """Raise KafkaError unless a BROKER resource of this name is the broker itself."""
    if not is_node_id(name.removeprefix("-")):
        raise KafkaError(f"Broker id must be an integer, but it is: {name}", code=ErrorCode.INVALID_REQUEST)
    if int(name) != broker.node_id:
        raise KafkaError(
            f"Unexpected broker id, expected {broker.node_id}, but received {name}", code=ErrorCode.INVALID_REQUEST
        )


def broker_synonyms(broker: Broker, name: str) -> list[Synonym]:
    """Where a broker setting could come from, from the first place that has it under this very name on."""
    sources: tuple[tuple[Source, Mapping[str, str]], ...] = (
        (Source.DYNAMIC_BROKER, broker.dynamic.of(BROKER, str(broker.node_id))),
        (Source.DYNAMIC_DEFAULT, broker.dynamic.of(BROKER, CLUSTER_NAME)),
        (Source.STATIC, broker.static),
    )
    if name in ALIASES:
        return [Synonym(name, text, source) for _, text, source in broker_synonyms(broker, ALIASES[name])]
    names = fallbacks(name)
    found = [
        Synonym(each, None if is_secret(each) else texts[each], source)
        for source, texts in sources
        for each in names
        if each in texts
    ]
    for each in names:
        known = definition(each)
        if known is not None and known.default is not None:
            found.append(Synonym(each, None if is_secret(each) else known.default, Source.DEFAULT))
    while found and found[0].name != name:
        found.pop(0)
    return found


def is_secret(name: str) -> bool:
    """Whether a broker setting is never shown: passwords, and names that nobody knows (Kafka does the same)."""
    known = definition(name)
    return known is None or known.property.is_sensitive


def _broker_entry(broker: Broker, name: str) -> ConfigEntry:
    known = definition(name)
    synonyms = broker_synonyms(broker, name)
    value = synonyms[0].value if synonyms else None
    if known is None:
        return _unknown_entry(name, synonyms)
    if value is not None:
        value = format_value(known.property.parse(value))
    return _entry(name, known.property, value, synonyms, is_read_only=known.property.scope is Scope.READ_ONLY)


def _cluster_entry(broker: Broker, name: str) -> ConfigEntry:
    synonyms = [each for each in broker_synonyms(broker, name) if each.source is Source.DYNAMIC_DEFAULT]
    known = definition(name)
    if known is None:
        return _unknown_entry(name, synonyms)
    return _entry(name, known.property, synonyms[0].value if synonyms else None, synonyms)


def _unknown_entry(name: str, synonyms: list[Synonym]) -> ConfigEntry:
    return ConfigEntry(
        name=name,
        value=None,
        type=None,
        doc="Not a setting of this broker, nor of Apache Kafka.",
        is_read_only=True,
        is_sensitive=True,
        source=synonyms[0].source,
        synonyms=synonyms,
    )


def _entry(
    name: str, prop: Property, value: str | None, synonyms: list[Synonym], *, is_read_only: bool = False
) -> ConfigEntry:
    return ConfigEntry(
        name=name,
        value=None if prop.is_sensitive else value,
        type=prop.type,
        doc=prop.doc,
        is_read_only=is_read_only,
        is_sensitive=prop.is_sensitive,
        source=synonyms[0].source if synonyms else Source.DEFAULT,
        synonyms=synonyms,
    )


def topic_property(name: str) -> Property | None:
    """A topic setting by name."""
    return LogConfig.properties().get(name)
