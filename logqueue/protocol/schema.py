"""The notation messages are declared in: one typed, slotted class per struct, one field function per wire type.

A declaration is the schema, the Python type and the constructor at once:

    class TopicProduceData(Struct):
        name: str = string(until=12)
        topic_id: bytes = uuid(since=13)
        partition_data: list[PartitionProduceData] = array(PartitionProduceData)

    class ProduceRequest(Message, key=ApiKey.PRODUCE, versions=(3, 13), flexible=9): ...

`since`/`until` are the message versions (inclusive) that carry the field, `nullable` the first version in which it may
be null, `tag` makes it a tagged field (KIP-482). Every field has a default: zero, empty, null for nullable strings and
bytes, null for tagged structs (meaning: not sent). A field that a version lacks is not written, reads as default;
None is written as empty in versions before the field could be null.
Classes are mutable and cheap to create: nothing is compiled before the first use. Knows nothing of encoding.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, cast, dataclass_transform

from logqueue.protocol.wire import Records

T = TypeVar("T")

LATEST = 32767


class VersionRange(NamedTuple):
    """Versions `min` to `max`, both included."""

    min: int
    max: int

    def __contains__(self, version: object) -> bool:
        return isinstance(version, int) and self.min <= version <= self.max


class Kind(Generic[T]):
    """A wire type that stands for itself in arrays."""

    __slots__ = ("format", "name", "width")

    def __init__(self, name: str, format: str = "", width: int = 0) -> None:  # noqa: A002
        self.name = name
        self.format = format  # struct module code of a fixed-width type, else empty
        self.width = width

    def __repr__(self) -> str:
        return self.name


BOOL: Kind[bool] = Kind("bool", "?", 1)
INT8: Kind[int] = Kind("int8", "b", 1)
INT16: Kind[int] = Kind("int16", "h", 2)
INT32: Kind[int] = Kind("int32", "i", 4)
INT64: Kind[int] = Kind("int64", "q", 8)
UINT16: Kind[int] = Kind("uint16", "H", 2)
FLOAT64: Kind[float] = Kind("float64", "d", 8)
UUID: Kind[bytes] = Kind("uuid", "16s", 16)
STRING: Kind[str] = Kind("string")
BYTES: Kind[bytes] = Kind("bytes")
RECORDS: Kind[Records] = Kind("records")
STRUCT: Kind[Any] = Kind("struct")
ARRAY: Kind[list[Any]] = Kind("array")


class Field:
    """One field of a struct: where and how it stands on the wire."""

    __slots__ = ("default", "item", "kind", "name", "nullable", "since", "tag", "until")

    def __init__(
        self,
        kind: Kind[Any],
        *,
        since: int,
        until: int,
        default: Any,
        nullable: int | None = None,
        tag: int | None = None,
        item: Any = None,
    ) -> None:
        self.name = ""
        self.kind = kind
        self.since = since
        self.until = until
        self.default = default
        self.nullable = nullable
        self.tag = tag
        self.item = item  # arrays: the Kind or Struct of the elements; structs: the Struct

    def fresh_default(self, names: dict[str, Any]) -> str:
        """Source of an expression that makes a new default, where one object must not be shared; else empty."""
        if self.default == []:
            return "[]"
        if self.kind is STRUCT and self.nullable is None and self.tag is None:
            names[self.item.__name__] = self.item
            return f"{self.item.__name__}()"
        return ""

    def is_in(self, version: int) -> bool:
        """Whether the message version carries this field."""
        return self.since <= version <= self.until

    def is_nullable(self, version: int) -> bool:
        """Whether the field may be null in the message version."""
        return self.nullable is not None and version >= self.nullable


@dataclass_transform(eq_default=True, kw_only_default=True)
class StructType(type):
    """Turns a declaration into a slotted class with its `fields`."""

    fields: tuple[Field, ...]

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        key: int | None = None,
        versions: tuple[int, int] | None = None,
        flexible: int = LATEST,
    ) -> StructType:
        fields = [value for value in namespace.items() if isinstance(value[1], Field)]
        for field_name, field in fields:
            field.name = field_name
            del namespace[field_name]
        namespace["__slots__"] = tuple(field_name for field_name, _ in fields)
        if versions is not None:
            namespace.update(api_key=key, versions=VersionRange(*versions), flexible_since=flexible)
        created = super().__new__(mcs, name, bases, namespace)
        created.fields = tuple(field for _, field in fields)
        return created

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: Any) -> None:
        super().__init__(name, bases, namespace)


class Struct(metaclass=StructType):
    """A part of a message. Attributes are the declared fields; the constructor takes them by keyword."""

    def __init__(self, **values: Any) -> None:
        # The constructor of each class is compiled when it is first called: importing a declaration costs no compiling.
        init = _compile_init(type(self))
        type(self).__init__ = init  # type: ignore[method-assign]
        init(self, **values)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, f.name) == getattr(other, f.name) for f in type(self).fields)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in type(self).fields)
        return f"{type(self).__name__}({values})"


class Message(Struct, versions=(0, 0)):
    """A whole request, response or internal record."""

    api_key: ClassVar[int | None]
    versions: ClassVar[VersionRange]
    flexible_since: ClassVar[int]


S = TypeVar("S", bound=type[Struct])
_FRESH = object()


def constructor(cls: S) -> S:
    """A function that makes instances of `cls` in half the time of calling it; type checkers see the class.

    CPython gathers the keywords of a class call in a dictionary first, those of a function call not: for hot paths.
    """
    return cast(S, _compile("make", cls, first="self = new(cls)", last="return self"))


def _compile_init(cls: type[Struct]) -> Any:
    return _compile("__init__", cls, takes_self=True)


def _compile(name: str, cls: type[Struct], *, takes_self: bool = False, first: str = "", last: str = "") -> Any:
    # Keyword-only for type checkers; compiled without the star, because defaults are then found without a dictionary.
    names: dict[str, Any] = {"FRESH": _FRESH, "new": object.__new__, "cls": cls}
    parameters = ["self"] if takes_self else []
    body = [first]
    for field in cls.fields:
        fresh = field.fresh_default(names)
        names[f"d_{field.name}"] = _FRESH if fresh else field.default
        parameters.append(f"{field.name}=d_{field.name}")
        value = f"{fresh} if {field.name} is FRESH else {field.name}" if fresh else field.name
        body.append(f"self.{field.name} = {value}")
    lines = [line for line in (*body, last) if line] or ["pass"]
    source = f"def {name}({', '.join(parameters)}):\n" + "".join(f"    {line}\n" for line in lines)
    exec(compile(source, f"<{name} of {cls.__name__}>", "exec"), names)  # noqa: S102 - built from our own table
    return names[name]
