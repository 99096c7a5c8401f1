"""What a property is: its Kafka name, type, limits and meaning, and how its text becomes a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
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
    convert: Callable[[Any], Any] | None = None  # what the program holds instead of the parsed value
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
        return value if self.convert is None else self.convert(value)

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


def setting(
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


class Properties:
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
