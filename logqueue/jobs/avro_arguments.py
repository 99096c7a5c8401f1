"""Arguments of a job whose Avro schema is declared: checked, and written as Avro in Confluent framing. No IO.

A worker reads them through its own schema (Avro's resolution): what an older sender did not know has its default, what
a newer one added is passed over. JSON is read too, since HTTP, schedules and foreign producers write it.

| Avro                      | Python                          | Avro                    | Python            |
|---------------------------|---------------------------------|-------------------------|-------------------|
| null, boolean, string     | None, bool, str                 | date, time-*            | date, time        |
| int, long; float, double  | int; float                      | timestamp-*             | datetime with UTC |
| bytes, fixed              | bytes (base64 in JSON)          | local-timestamp-*       | datetime without  |
| enum                      | str, one of its symbols         | decimal                 | Decimal           |
| array, map, union         | list, dict, one of its branches | uuid                    | UUID              |
| record                    | dict, or what the parameter's annotation says                                 |
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial, reduce
from io import BytesIO
from operator import or_
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

import fastavro
import msgspec
from fastavro.read import LOGICAL_READERS
from fastavro.validation import ValidationError, validate
from logqueue_schemas.avro import Parsed
from logqueue_schemas.compatibility import kind_of
from logqueue_schemas.framing import frame_header

from logqueue.jobs.argument_schema import ArgumentSchema
from logqueue.jobs.errors import InvalidArguments
from logqueue.jobs.payload import ArgumentCodec, invalid_arguments

AVRO_TYPE = "application/avro"

_PRIMITIVES: dict[str, Any] = {
    "null": None,
    "boolean": bool,
    "int": int,
    "long": int,
    "float": float,
    "double": float,
    "bytes": bytes,
    "string": str,
    "fixed": bytes,
}
_AWARE = Annotated[datetime, msgspec.Meta(tz=True)]
_NAIVE = Annotated[datetime, msgspec.Meta(tz=False)]
_LOGICAL: dict[str, Any] = {
    "int-date": date,
    "int-time-millis": time,
    "long-time-micros": time,
    "long-timestamp-millis": _AWARE,
    "long-timestamp-micros": _AWARE,
    "long-local-timestamp-millis": _NAIVE,
    "long-local-timestamp-micros": _NAIVE,
    "bytes-decimal": Decimal,
    "fixed-decimal": Decimal,
    "string-uuid": UUID,
}
_NATIVE = (bytes, datetime, date, time, Decimal, UUID)


class AvroCodec(ArgumentCodec):
    """Arguments <-> Avro for one declared schema; `type_` is the struct that `avro_fields` made the fields of."""

    __slots__ = ("_header", "_parsed", "schema")

    content_type = AVRO_TYPE

    def __init__(self, type_: type[msgspec.Struct], schema: ArgumentSchema) -> None:
        super().__init__(type_)
        self.schema = schema
        self._parsed: Any = _ready(schema.parsed())
        self._header = frame_header(schema.content_id)

    def encode(self, arguments: Any) -> bytes:
        """The framed value of keyword arguments; see ArgumentCodec."""
        if not isinstance(arguments, dict):
            raise InvalidArguments(f"Arguments are given by their names, not by position: {arguments!r:.100}")
        for name in arguments:
            if name not in self.names:
                raise InvalidArguments(f"The schema has no field `{name}`", field=name)
        try:
            plain = msgspec.to_builtins(arguments, builtin_types=_NATIVE)
            given = msgspec.convert(plain, self._type)
        except msgspec.ValidationError as error:
            raise invalid_arguments(error) from None
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArguments(f"Arguments have no Avro form: {error}") from None
        return self._header + self._written(given)

    def decode_json(self, value: bytes) -> Any:
        """Arguments of JSON text, which the schema has to allow too."""
        arguments = super().decode_json(value)
        self._written(arguments)
        return arguments

    def _read(self, decode: Callable[..., Any], body: memoryview) -> Any:
        return decode(body, self._parsed)

    def _written(self, arguments: msgspec.Struct) -> bytes:
        """The Avro body; InvalidArguments for what the types let pass and the schema does not."""
        record: Any = msgspec.to_builtins(arguments, builtin_types=_NATIVE)
        body = BytesIO()
        try:
            validate(record, self._parsed)
            fastavro.schemaless_writer(body, self._parsed, record, strict_allow_default=True)
        except ValidationError as error:
            raise _refused(error) from None
        except (ValueError, TypeError, OverflowError, ArithmeticError, RecursionError) as error:
            raise InvalidArguments(f"Arguments have no Avro form: {error}") from None
        return body.getvalue()


def avro_fields(schema: ArgumentSchema, hints: Mapping[str, Any]) -> list[Any]:
    """The fields of the struct that holds a record's arguments; `hints` are the annotations that a handler has."""
    parsed = schema.parsed()
    fields: list[Any] = []
    for field in parsed.root["fields"]:
        name = field["name"]
        type_ = hints.get(name, _python_type(parsed, field["type"], ()))
        if "default" in field:
            default = native_default(parsed, field["type"], field["default"])
            fields.append((name, type_, msgspec.field(default_factory=partial(msgspec.convert, default, type_))))
        else:
            fields.append((name, type_))
    return fields


def _ready(parsed: Parsed) -> Any:
    """The schema with native values as defaults: fastavro takes a default as it stands, even where the type is bytes
    (a text in JSON) or a date (a number)."""
    for record in _records(parsed.root, parsed):
        for field in record["fields"]:
            if "default" in field:
                field["default"] = native_default(parsed, field["type"], field["default"])
    return parsed.root


def _records(root: Any, parsed: Parsed) -> list[Any]:
    """All record types of a schema, once each (as objects: a type and its copy under its name are two)."""
    found: dict[int, Any] = {}
    waiting = [root, *parsed.named.values(), *root.get("__named_schemas", {}).values()]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict) and id(node) not in found:
            found[id(node)] = node
            waiting += [node.get("items"), node.get("values"), node.get("type")]
            waiting += [field["type"] for field in node.get("fields", ())]
    return [node for node in found.values() if "fields" in node]


def native_default(parsed: Parsed, type_: Any, default: Any) -> Any:
    """The value that a default in a schema's JSON stands for (Avro specification, "Complex Types")."""
    node = parsed.resolve(type_)
    if isinstance(node, list):
        node = parsed.resolve(node[0])  # a default of a union is one of its first branch
    kind = kind_of(node)
    match kind:
        case "bytes" | "fixed" if isinstance(default, str):
            default = default.encode("latin-1")
        case "array":
            return [native_default(parsed, node["items"], item) for item in default]
        case "map":
            return {name: native_default(parsed, node["values"], item) for name, item in default.items()}
        case "record" | "error":
            return {
                field["name"]: native_default(parsed, field["type"], default.get(field["name"], field.get("default")))
                for field in node["fields"]
            }
    logical = node.get("logicalType") if isinstance(node, dict) else None
    read = LOGICAL_READERS.get(f"{kind}-{logical}")
    return default if read is None or not isinstance(default, (int, str, bytes)) else read(default, node, None)


def _python_type(parsed: Parsed, node: Any, within: tuple[str, ...]) -> Any:
    node = parsed.resolve(node)
    if isinstance(node, list):
        return _union([_python_type(parsed, branch, within) for branch in node])
    kind = kind_of(node)
    if isinstance(node, dict) and "logicalType" in node:
        logical = _LOGICAL.get(f"{kind}-{node['logicalType']}")
        if logical is not None:
            return logical
    match kind:
        case "array":
            return list[_python_type(parsed, node["items"], within)]  # type: ignore[misc]
        case "map":
            return dict[str, _python_type(parsed, node["values"], within)]  # type: ignore[misc]
        case "enum":
            return Literal[tuple(node["symbols"])]
        case "record" | "error":
            name = node["name"]
            if name in within:
                return dict[str, Any]
            fields = {field["name"]: _python_type(parsed, field["type"], (*within, name)) for field in node["fields"]}
            return TypedDict(name.rpartition(".")[2], fields, total=False)  # type: ignore[operator]
        case _:
            return _PRIMITIVES[kind]


def _union(branches: list[Any]) -> Any:
    """One of the branches; anything where msgspec cannot tell them apart: the schema itself is asked in any case."""
    union: Any = reduce(or_, (types.NoneType if branch is None else branch for branch in branches))
    try:
        msgspec.json.Decoder(union)
    except TypeError:
        return Any
    return union


def _refused(error: ValidationError) -> InvalidArguments:
    fields = [one.field for one in error.errors if one.field]
    field = fields[0].partition(".")[2] if fields else None
    told = "; ".join(str(one) for one in error.errors[:3])
    return InvalidArguments(f"The schema does not allow it: {told}", field=field or None)
