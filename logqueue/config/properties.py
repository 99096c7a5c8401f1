"""What a property is: its Kafka name, type, limits and meaning, and how its text becomes a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Self, dataclass_transform

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
    CLASS = 8
    PASSWORD = 9


class Scope(Enum):
    """When a broker setting can be changed (KIP-226): at the start only, for one broker, or for the whole cluster."""

    READ_ONLY = "read-only"
    PER_BROKER = "per-broker"
    CLUSTER = "cluster-wide"


class Property(NamedTuple):
    """One setting: what Kafka calls it, what it may hold, and what it means."""

    name: str
    type: ConfigType
    doc: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None
    allows: Callable[[Any], bool] | None = None  # what the limits above cannot say
    allowed: str = ""  # what `allows` wants, in words
    requested_minimum: float | None = None  # lowest value that users may set; tests of the storage go below it
    scope: Scope = Scope.READ_ONLY
    has_effect: bool = True  # False: kept and shown for Kafka's tools, and nothing here reads it
    is_internal: bool = False  # taken, but not shown
    convert: Callable[[Any], Any] | None = None  # what the program holds instead of the parsed value
    synonym: str | None = None  # the broker-wide property that a topic-level one falls back to

    @property
    def is_sensitive(self) -> bool:
        """Whether the value is a secret: never shown, never logged."""
        return self.type is ConfigType.PASSWORD

    def parse(self, text: str) -> Any:
        """Turn property text into a value, or raise InvalidConfig naming the property and what it allows."""
        try:
            value = _PARSERS[self.type](text.strip())
        except ValueError:
            if self.is_sensitive:
                raise InvalidConfig(f"Invalid value for configuration {self.name}") from None
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
        if self.allows is not None and not self.allows(value):
            raise InvalidConfig(f"Invalid value {text} for configuration {self.name}: {self.allowed}")

    def check_request(self, text: str) -> None:
        """Raise InvalidConfig for text that a user may not set, though a test may."""
        value = self.parse(text)
        if self.requested_minimum is not None and value < self.requested_minimum:
            low = format_value(self.requested_minimum)
            raise InvalidConfig(f"Invalid value {text} for configuration {self.name}: must be at least {low}")


def format_value(value: object) -> str:
    """Property text of a value, as Kafka prints it."""
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return ",".join(map(str, value))
        case float():
            return _format_double(value)
        case _:
            return str(value)


def _format_double(value: float) -> str:
    """As Java's Double.toString: plain between 0.001 and ten million, with an E beyond."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    for digits in range(17):  # the shortest that reads back as the same number
        text = f"{value:.{digits}e}"
        if float(text) == value:
            break
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}E{int(exponent)}"


def _parse_int(bits: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise ValueError(text)
        return value

    return parse


def _parse_bool(text: str) -> bool:
    match text.lower():
        case "true":
            return True
        case "false":
            return False
        case _:
            raise ValueError(text)


def _parse_list(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


_PARSERS: dict[ConfigType, Callable[[str], Any]] = {
    ConfigType.BOOLEAN: _parse_bool,
    ConfigType.STRING: str,
    ConfigType.INT: _parse_int(32),
    ConfigType.SHORT: _parse_int(16),
    ConfigType.LONG: _parse_int(64),
    ConfigType.DOUBLE: float,
    ConfigType.LIST: _parse_list,
    ConfigType.CLASS: str,
    ConfigType.PASSWORD: str,
}


class Setting(NamedTuple):
    """A property and its default, as they are declared."""

    default: Any
    property: Property


def setting(default: Any, name: str, type_: ConfigType, doc: str, **limits: Any) -> Any:
    """Declare a field of a configuration; `limits` are the other fields of its `Property`."""
    return Setting(default, Property(name=name, type=type_, doc=doc, **limits))


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Properties:
    """What all configurations share: the table of their properties, parsing, and overriding.

    A subclass declares its fields with `setting`; they become keywords of its constructor. An object holds what is not
    the default, and never changes. Dataclasses would cost a start eight milliseconds for two hundred fields.
    """

    _settings: ClassVar[dict[str, Setting]] = {}  # by name of the field

    def __init_subclass__(cls) -> None:
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Setting)}
        for name, value in own.items():
            setattr(cls, name, value.default)
        cls._settings = {}
        for base in reversed(cls.__mro__[1:]):
            cls._settings |= vars(base).get("_settings", {})
        cls._settings |= own

    def __init__(self, **values: Any) -> None:
        for name in values:
            if name not in self._settings:
                raise TypeError(f"{type(self).__name__} has no setting {name!r}")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed; see with_")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._settings)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self._settings))

    def with_(self, **changes: Any) -> Self:
        """The same but for some fields."""
        return type(self)(**{**self.__dict__, **changes})

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """The fields, in declaration order."""
        return tuple(cls._settings)

    @classmethod
    def properties(cls) -> dict[str, Property]:
        """The settings by Kafka name, in declaration order."""
        return {each.property.name: each.property for each in cls._settings.values()}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], *, base: Self | None = None) -> Self:
        """Build from property text over `base` (default: the defaults); unknown names raise InvalidConfig."""
        fields = {each.property.name: name for name, each in cls._settings.items()}
        values = {} if base is None else dict(base.__dict__)
        for name, text in cls._prepared(properties).items():
            if name not in fields:
                raise InvalidConfig(f"Unknown configuration {name}")
            field = fields[name]
            values[field] = cls._settings[field].property.parse(text)
        return cls(**values)

    @classmethod
    def _prepared(cls, properties: Mapping[str, str]) -> Mapping[str, str]:
        """The properties as they are read: where one takes the place of another."""
        return properties

    def items(self) -> list[tuple[Property, Any]]:
        """Every property with its value here."""
        return [(each.property, getattr(self, name)) for name, each in self._settings.items()]
