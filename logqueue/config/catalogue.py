"""Every broker setting by name: what it is, what it falls back to, and how the texts given become configurations.

A name is one of `BrokerConfig`, the broker-wide default of a topic setting (`log.*`), another word for one of those
(`log.dirs`, `log.retention.hours`), or one of Kafka's that means nothing here (`kafka_only`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from logqueue.config.broker import BrokerConfig
from logqueue.config.properties import ConfigType, InvalidConfig, Property, Scope, format_value
from logqueue.config.topic import LogConfig

MINUTE_MS = 60_000
HOUR_MS = 3_600_000

# The same setting in other units: the first that is set counts (Kafka's documentation of log.retention.ms).
UNITS: dict[str, tuple[tuple[str, int], ...]] = {
    "log.retention.ms": (
        ("log.retention.ms", 1),
        ("log.retention.minutes", MINUTE_MS),
        ("log.retention.hours", HOUR_MS),
    ),
    "log.roll.ms": (("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)),
    "log.roll.jitter.ms": (("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR_MS)),
    "log.flush.interval.ms": (("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)),
}
_UNIT_DEFAULTS = {
    "log.retention.minutes": None,
    "log.retention.hours": "168",
    "log.roll.hours": "168",
    "log.roll.jitter.hours": "0",
    "log.flush.scheduler.interval.ms": "9223372036854775807",
}
ALIASES = {"broker.id": "node.id", "log.dirs": "log.dir"}


class Definition(NamedTuple):
    """A broker setting and the text of its default (None: it has none of its own)."""

    property: Property
    default: str | None


def topic_synonyms() -> dict[str, str]:
    """Topic settings by the broker-wide name of their default."""
    return {p.synonym: name for name, p in LogConfig.properties().items() if p.synonym is not None}


def fallbacks(name: str) -> list[str]:
    """The names that a setting is looked for under, in order."""
    for units in UNITS.values():
        names = [unit for unit, _ in units]
        if name in names:
            return names
    return [name]


def definition(name: str) -> Definition | None:
    """What is known of a broker setting; None for a name that Kafka does not know either."""
    return definitions().get(name)


_definitions: dict[str, Definition] = {}


def definitions() -> dict[str, Definition]:
    """Every broker setting by name."""
    if not _definitions:
        _definitions.update(_define())
    return _definitions


def _define() -> dict[str, Definition]:
    from logqueue.config.kafka_only import kafka_only

    found = {name: Definition(property=prop, default=text) for name, (prop, text) in kafka_only().items()}
    topics = LogConfig.properties()
    defaults = {prop.name: value for prop, value in LogConfig().items()}
    for synonym, name in topic_synonyms().items():
        default = None if synonym in UNITS else format_value(defaults[name])
        prop = topics[name]._replace(name=synonym, scope=Scope.CLUSTER, doc=f"Default of {name}. {topics[name].doc}")
        found[synonym] = Definition(property=prop, default=default)
    for name, default in _UNIT_DEFAULTS.items():
        kind = ConfigType.LONG if name.endswith(".ms") else ConfigType.INT
        doc = f"Another word for {fallbacks(name)[0]}, which counts before it."
        found[name] = Definition(property=Property(name=name, type=kind, doc=doc), default=default)
    for prop, value in BrokerConfig().items():
        found[prop.name] = Definition(property=prop, default=None if value is None else format_value(value))
    for alias, name in ALIASES.items():
        known = found[name]
        doc = f"Another word for {name}. {known.property.doc}"
        found[alias] = Definition(property=known.property._replace(name=alias, doc=doc), default=None)
    return found


def resolve(texts: Mapping[str, str]) -> tuple[BrokerConfig, LogConfig]:
    """The broker's configuration and the defaults of its topics. Raises InvalidConfig; passes over unknown names."""
    given = dict(texts)
    for alias, name in ALIASES.items():
        if alias in given:
            given[name] = given.pop(alias)
    if "," in given.get("log.dir", ""):
        raise InvalidConfig("log.dirs: there is one data folder; name only one")
    for name, units in UNITS.items():
        milliseconds = _in_milliseconds(given, units)
        if milliseconds is not None:
            given[name] = milliseconds
    known = BrokerConfig.properties()
    config = BrokerConfig.from_properties({name: text for name, text in given.items() if name in known})
    synonyms = topic_synonyms()
    of_topics = {synonyms[name]: text for name, text in given.items() if name in synonyms}
    defaults = LogConfig.from_properties(of_topics)
    defaults.check()
    return config, defaults


def _in_milliseconds(given: Mapping[str, str], units: tuple[tuple[str, int], ...]) -> str | None:
    for name, factor in units:
        text = given.get(name)
        if text is None:
            continue
        value = int(Property(name=name, type=ConfigType.LONG, doc="", minimum=-1).parse(text))
        return str(value * factor if value > 0 else value)
    return None


def texts_of(config: BrokerConfig, defaults: LogConfig) -> dict[str, str]:
    """The settings of configurations made in code that are not as they would be by default."""
    texts = {}
    plain = {prop.name: value for prop, value in BrokerConfig().items()}
    for prop, value in config.items():
        if value is not None and value != plain[prop.name]:
            texts[prop.name] = format_value(value)
    plain = {prop.name: value for prop, value in LogConfig().items()}
    for prop, value in defaults.items():
        if prop.synonym is not None and value != plain[prop.name]:
            texts[prop.synonym] = format_value(value)
    return texts
