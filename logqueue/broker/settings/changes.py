"""Changes to settings, as the admin APIs ask for them: checked as a whole, stored, and in effect at the return.

Rules and their order are Apache Kafka 4.2's: a broker setting has to be dynamic (KIP-226), its value has to parse, and
the whole has to make sense. An unknown topic or group setting is refused, an unknown broker setting is kept.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from logqueue.broker.settings.configs import ResourceType, check_broker_name, is_node_id, topic_property
from logqueue.broker.settings.dynamic import BROKER, CLUSTER_NAME, GROUP
from logqueue.broker.settings.log_levels import change_level
from logqueue.config import ConfigType, InvalidConfig, LogConfig, Property, format_value
from logqueue.config.catalogue import definition, resolve
from logqueue.config.group import GroupConfig
from logqueue.config.properties import Scope
from logqueue.config.startup import is_unsafe
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.wire import STRING_BYTES_MAX
from logqueue.storage.topic_rules import check_name

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

log = logging.getLogger("logqueue.broker.settings.configs")


class Operation(IntEnum):
    """What an incremental change does (KIP-339)."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class Change(NamedTuple):
    """One change to one setting; `operation` is what the client sent and may be unknown."""

    name: str
    operation: int
    value: str | None


class InvalidChange(KafkaError):
    """A change that cannot be asked for like this."""

    code = ErrorCode.INVALID_REQUEST


class _Wanted(Protocol):
    """A resource in a request; both APIs that alter settings have a message of their own for it."""

    resource_type: int
    resource_name: str


class _Answer(Protocol):
    """What became of a resource."""

    error_code: int
    error_message: str | None


WantedT = TypeVar("WantedT", bound=_Wanted)
AnswerT = TypeVar("AnswerT", bound=_Answer)


def change_each(
    resources: Iterable[WantedT], change: Callable[[WantedT], None], answer: Callable[..., AnswerT]
) -> list[AnswerT]:
    """Change one resource after the other, and tell what became of each; one that is named twice is not changed."""
    wanted = list(resources)
    counts = Counter((each.resource_type, each.resource_name) for each in wanted)
    answers = []
    for each in wanted:
        kind, name = each.resource_type, each.resource_name
        told = answer(resource_type=kind, resource_name=name)
        try:
            if counts[kind, name] > 1:
                raise InvalidChange("Each resource must appear at most once.")
            change(each)
        except KafkaError as error:
            told.error_code, told.error_message = error.code, error.detail or None
        answers.append(told)
    return answers


def alter(broker: Broker, kind: int, name: str, changes: list[Change], *, validate_only: bool) -> None:
    """Apply incremental changes to one resource, all or none. Raises KafkaError."""
    _check_shape(changes)
    match kind:
        case ResourceType.TOPIC:
            _alter_topic(broker, name, changes, validate_only=validate_only)
        case ResourceType.BROKER:
            _check_broker(broker, name)
            texts = _edited(broker.dynamic.of(BROKER, name), changes, property_of=_broker_property, default=_default)
            _set_broker(broker, name, texts, validate_only=validate_only)
        case ResourceType.GROUP:
            _check_group(name)
            texts = _edited(broker.dynamic.of(GROUP, name), changes, property_of=_group_property, default=_no_default)
            _set_group(broker, name, texts, validate_only=validate_only)
        case ResourceType.BROKER_LOGGER:
            for only_look in (True, validate_only):  # all or none: each is looked at before any is made
                for change in changes:
                    _change_level(broker, name, change, validate_only=only_look)
        case _:
            raise _refused(kind)


def replace(broker: Broker, kind: int, name: str, changes: list[Change], *, validate_only: bool) -> None:
    """Make these the only settings of one resource (AlterConfigs). Raises KafkaError."""
    _check_shape(changes)
    texts = {change.name: change.value or "" for change in changes}
    match kind:
        case ResourceType.TOPIC:
            _check_topic(name)
            _check_topic_texts(broker, texts)
            broker.topics.set_overrides(broker.topics.get(name), texts, validate_only=validate_only)
        case ResourceType.BROKER:
            _check_broker(broker, name)
            _set_broker(broker, name, texts, validate_only=validate_only)
        case ResourceType.GROUP:
            _set_group(broker, name, texts, validate_only=validate_only)
        case _:
            raise _refused(kind)


def _refused(kind: int) -> InvalidChange:
    if kind == ResourceType.CLIENT_METRICS:
        return InvalidChange("client metrics (KIP-714) are not served: nobody would be told about the subscription")
    return InvalidChange(f"Unknown resource type {kind}")


def _check_shape(changes: list[Change]) -> None:
    nulls = [change.name for change in changes if change.value is None and change.operation != Operation.DELETE]
    if nulls:
        raise InvalidChange(f"Null value not supported for : {','.join(nulls)}")
    if len({change.name for change in changes}) < len(changes):
        raise InvalidChange("Error due to duplicate config keys")


# Topics


def _check_topic(name: str) -> None:
    if not name:
        raise InvalidChange("Default topic resources are not allowed.")
    check_name(name)


def _alter_topic(broker: Broker, name: str, changes: list[Change], *, validate_only: bool) -> None:
    _check_topic(name)
    topic = broker.topics.by_name.get(name)  # settings are judged first, whether or not the topic is there
    config = broker.log_defaults if topic is None else topic.config
    present = {prop.name: format_value(value) for prop, value in config.items()}

    def default(prop: Property) -> str:
        return present[prop.name]

    overrides = {} if topic is None else topic.overrides
    texts = _edited(overrides, changes, property_of=_topic_property, default=default)
    _check_topic_texts(broker, texts)
    broker.topics.set_overrides(broker.topics.get(name), texts, validate_only=validate_only)


def _check_topic_texts(broker: Broker, texts: Mapping[str, str]) -> None:
    LogConfig.check_request(texts)
    broker.topics.check_overrides(texts)


def _topic_property(name: str) -> Property:
    prop = topic_property(name)
    if prop is None:
        raise InvalidConfig(f"Unknown topic config name: {name}")
    return prop


# Broker


def _check_broker(broker: Broker, name: str) -> None:
    if name != CLUSTER_NAME:
        check_broker_name(broker, name)


def _broker_property(name: str) -> Property:
    known = definition(name)
    return Property(name=name, type=ConfigType.STRING, doc="") if known is None else known.property


def _default(prop: Property) -> str:
    known = definition(prop.name)
    return "" if known is None else known.default or ""


def _set_broker(broker: Broker, name: str, texts: Mapping[str, str], *, validate_only: bool) -> None:
    _check_dynamic(name, texts)
    of_cluster, own = broker.dynamic.of(BROKER, CLUSTER_NAME), broker.dynamic.of(BROKER, str(broker.node_id))
    if name == CLUSTER_NAME:
        of_cluster = texts
    else:
        own = texts
    try:
        for key, text in texts.items():
            _broker_property(key).check_request(text)
        config, _ = resolve({**broker.static, **of_cluster, **own})
        if broker.certificates is not None:
            broker.certificates.check(config)
    except InvalidConfig as error:  # Kafka's answer to a wrong value of a topic and of a broker is not the same
        raise InvalidChange(error.detail) from None
    if validate_only:
        return
    for key in texts:
        if definition(key) is None:
            log.warning("broker setting %s is stored, but nothing knows it", key)
    broker.dynamic.replace(BROKER, name, texts)
    log.info("settings of %s changed: %s", f"broker {name}" if name else "the cluster", ", ".join(texts) or "none left")
    broker.reconfigure()


def _check_dynamic(name: str, texts: Mapping[str, str]) -> None:
    unsafe = [key for key, text in texts.items() if is_unsafe(key, text)]
    if unsafe:
        raise InvalidChange(f"Not offered here, and to go on without it would be unsafe: {', '.join(unsafe)}")
    known = [(key, found.property) for key in texts if (found := definition(key)) is not None]
    fixed = [key for key, prop in known if prop.scope is Scope.READ_ONLY]
    if fixed:
        raise InvalidChange(f"Cannot update these configs dynamically: Set({', '.join(fixed)})")
    local = [key for key, prop in known if prop.scope is Scope.PER_BROKER]
    if local and name == CLUSTER_NAME:
        raise InvalidChange(
            "Cannot update these configs at default cluster level, broker id must be specified: "
            f"Set({', '.join(local)})"
        )
    secret = [key for key, prop in known if prop.is_sensitive]
    if secret:
        raise InvalidChange(f"Secrets are not stored in the data folder: give {', '.join(secret)} at the start")


# Groups and loggers


def _group_property(name: str) -> Property:
    prop = GroupConfig.properties().get(name)
    if prop is None:
        raise InvalidConfig(f"Unknown group config name: {name}")
    return prop


def _no_default(prop: Property) -> str:
    return ""


def _check_group(name: str) -> None:
    if not name:
        raise InvalidChange("Default group resources are not allowed.")


def _set_group(broker: Broker, name: str, texts: Mapping[str, str], *, validate_only: bool) -> None:
    _check_group(name)
    GroupConfig.of(texts, broker.config)
    if not validate_only:
        broker.dynamic.replace(GROUP, name, texts)
        broker.forget_group_config(name)


def _change_level(broker: Broker, name: str, change: Change, *, validate_only: bool) -> None:
    if not is_node_id(name):
        raise InvalidChange(f"Node id must be an integer, but it is: {name}")
    if int(name) != broker.node_id:
        raise InvalidChange(f"Unexpected node id. Expected {broker.node_id}, but received {name}")
    match change.operation:
        case Operation.SET:
            change_level(change.name, change.value, validate_only=validate_only)
        case Operation.DELETE:
            change_level(change.name, None, validate_only=validate_only)
        case Operation.APPEND | Operation.SUBTRACT:
            named = Operation(change.operation).name
            raise InvalidChange(f"{named} operation is not allowed for the BROKER_LOGGER resource")
        case operation:
            raise InvalidChange(f"Unknown operation type {operation} for {change.name}")


# One setting


def _edited(
    present: Mapping[str, str],
    changes: Iterable[Change],
    *,
    property_of: Callable[[str], Property],
    default: Callable[[Property], str],
) -> dict[str, str]:
    """The texts after the changes. Raises KafkaError for an operation that the setting does not have."""
    texts = dict(present)
    for name, operation, value in changes:
        match operation:
            case Operation.DELETE:
                texts.pop(name, None)
            case Operation.SET:
                property_of(name)
                texts[name] = value or ""
            case Operation.APPEND | Operation.SUBTRACT:
                prop = property_of(name)
                if prop.type is not ConfigType.LIST:
                    named = Operation(operation).name
                    raise InvalidConfig(f"Can't {named} to key {name} because its type is not LIST.")
                items = texts.get(name, default(prop))
                if operation == Operation.APPEND and items and not (value or "").strip():
                    raise InvalidConfig(f"Configuration '{name}' values must not be empty.")
                text = _edit_list(items, value or "", is_append=operation == Operation.APPEND)
                if len(text.encode()) > STRING_BYTES_MAX:
                    raise InvalidConfig(f"{name}: a value has at most {STRING_BYTES_MAX} bytes")
                texts[name] = text
            case _:
                raise InvalidChange(f"Unknown operation type {operation} for {name}")
    return texts


def _edit_list(present: str, change: str, *, is_append: bool) -> str:
    items = [item.strip() for item in present.split(",") if item.strip()]
    named = [item.strip() for item in change.split(",") if item.strip()]
    if is_append:
        return ",".join(dict.fromkeys([*items, *named]))
    return ",".join(item for item in items if item not in named)
