"""From the texts that a broker is started with to its configuration, with each fault told by where it stands.

Later sources win: the file, then `--override`, then the options that have a name of their own. Reads no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from logqueue.config.broker import BrokerConfig
from logqueue.config.catalogue import ALIASES, definition, definitions, resolve, topic_synonyms
from logqueue.config.properties import InvalidConfig
from logqueue.config.topic import LogConfig

_LIKELY = 0.75  # similarity above which a misspelt name is suggested
_PER_LISTENER = "listener.name."


class Given(NamedTuple):
    """One setting as it was given; `where` is for people: `server.properties:12` or `--override`.

    A file may be meant for other brokers too, so unknown names in it are passed over with a warning, as in Kafka; on
    the command line (`is_strict`) they are refused.
    """

    name: str
    text: str
    where: str
    is_strict: bool = False


class Startup(NamedTuple):
    """What a broker starts with. `warnings` (misspelt names) and `notes` (names without effect) are for its log."""

    config: BrokerConfig
    log_defaults: LogConfig
    static: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def start_with(given: Iterable[Given]) -> Startup:
    """Check and combine; of a name that is given twice the last counts. Raises InvalidConfig that says where."""
    chosen = {_canonical(each.name): each for each in given}
    known = {*BrokerConfig.properties(), *topic_synonyms()}
    warnings: list[str] = []
    notes: list[str] = []
    static: dict[str, str] = {}
    for name, each in chosen.items():
        if name not in known and (remark := _judge(name, each)) is not None:
            (warnings if definition(name) is None else notes).append(remark)
        _check(name, each)
        static[name] = each.text
    config, log_defaults = resolve(static)
    return Startup(
        config=config, log_defaults=log_defaults, static=static, warnings=tuple(warnings), notes=tuple(notes)
    )


def _canonical(name: str) -> str:
    return ALIASES.get(name, name)


def is_unsafe(name: str, text: str) -> bool:
    """Whether a setting protects something in Kafka, and could not here: whoever gives it has to be told."""
    from logqueue.config.kafka_only import MUST_NOT_BE_IGNORED

    found = definition(name)
    if name not in MUST_NOT_BE_IGNORED and not name.startswith(_PER_LISTENER):
        return False
    return found is None or text != (found.default or "")


def _judge(name: str, given: Given) -> str | None:
    """What to say about a setting that is not one of ours. Raises InvalidConfig if it must not be passed over."""
    found = definition(name)
    if is_unsafe(name, given.text):
        raise InvalidConfig(f"{given.where}: {name} is not offered here, and starting without it would be unsafe")
    if found is None and given.is_strict:
        raise InvalidConfig(f"Unknown configuration {name}{_suggestion(name)}")
    if found is None:
        return f"{given.where}: unknown setting {name}{_suggestion(name)}"
    if not found.property.has_effect and given.text != (found.default or ""):
        return f"{given.where}: {name} has no effect here ({found.property.doc.partition(': ')[2].rstrip('.')})"
    return None


def _check(name: str, given: Given) -> None:
    prop = BrokerConfig.properties().get(name)
    if prop is None and (found := definition(name)) is not None:
        prop = found.property
    if prop is None:
        return
    try:
        prop.parse(given.text)
    except InvalidConfig as error:
        raise InvalidConfig(f"{given.where}: {error.detail}") from None


def _suggestion(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, definitions(), n=1, cutoff=_LIKELY)
    return f"; did you mean {close[0]}?" if close else ""
