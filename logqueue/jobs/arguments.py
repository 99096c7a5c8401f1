"""What a handler's arguments are: its keyword parameters, one model, or the fields of an Avro schema.

| declared by                                          | on the log                    | the handler gets        |
|------------------------------------------------------|-------------------------------|-------------------------|
| parameters with annotations                          | JSON object of them           | them                    |
| `arguments=Model`, or one parameter of that type     | JSON object of its fields     | an instance             |
| `arguments="email.avsc"`                             | Avro in Confluent framing     | the record's fields     |

A model is a msgspec.Struct or a pydantic BaseModel. A keyword-only parameter (`*, email: Email`) is no model of the
whole but an argument of that name. The file of a schema is looked up beside the file of the handler.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from logqueue.jobs.argument_models import is_model, model_codec, model_schema
from logqueue.jobs.context import JobContext
from logqueue.jobs.errors import InvalidArguments, InvalidDefinition
from logqueue.jobs.payload import ArgumentCodec

RESERVED_ARGUMENTS = frozenset({"tenant"})  # `send` takes it for itself

Arguments = type[Any] | str | Path | None

_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_MUTABLE = (list, dict, set, bytearray)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """Arguments as they were declared. `is_model`: the handler takes them as one value."""

    type: type[Any]
    codec: ArgumentCodec
    schema: Mapping[str, Any]
    is_model: bool = False


def declare_arguments(
    handler: Callable[..., Any],
    parameters: Sequence[inspect.Parameter],
    hints: Mapping[str, Any],
    arguments: Arguments,
    *,
    where: str,
    type_: str,
    queue: str,
) -> Declared:
    """The arguments of a handler whose parameters (without the context) these are; InvalidDefinition."""
    if isinstance(arguments, (str, Path)):
        return _of_schema(handler, parameters, hints, Path(arguments), where=where, type_=type_, queue=queue)
    model = _model(parameters, hints, arguments, where)
    if model is not None:
        codec = _codec(lambda: model_codec(model), where)
        _check_names(codec.names, where)
        return Declared(type=model, codec=codec, schema=_schema(model, where), is_model=True)
    struct = _args_type(parameters, hints, where, type_)
    return Declared(type=struct, codec=_codec(lambda: ArgumentCodec(struct), where), schema=_schema(struct, where))


def one_of(model: object, arguments: dict[str, Any]) -> Any:
    """What was given to a sending: an instance, or arguments by their names."""
    if model is None:
        return arguments
    if arguments:
        raise InvalidArguments("Give the arguments as one model or by their names, not both")
    return model


def _model(
    parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any], arguments: type[Any] | None, where: str
) -> type[Any] | None:
    only = parameters[0] if len(parameters) == 1 else None
    hint = hints.get(only.name) if only is not None else None
    if arguments is None:
        is_whole = only is not None and only.kind in _POSITIONAL and only.default is inspect.Parameter.empty
        return hint if is_whole and is_model(hint) else None
    if not is_model(arguments):
        raise InvalidDefinition(
            f"{where}: arguments={arguments!r} is no pydantic or msgspec model, and no name of an .avsc file"
        )
    if only is None or only.kind not in _POSITIONAL:
        raise InvalidDefinition(f"{where}: with arguments={arguments.__name__} it takes one parameter, by position")
    if hint not in (None, Any, arguments):
        raise InvalidDefinition(f"{where}: its parameter {only.name!r} is not annotated {arguments.__name__}")
    return arguments


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _of_schema(
    handler: Callable[..., Any],
    parameters: Sequence[inspect.Parameter],
    hints: Mapping[str, Any],
    path: Path,
    *,
    where: str,
    type_: str,
    queue: str,
) -> Declared:
    from logqueue.jobs.argument_schema import load_argument_schema
    from logqueue.jobs.avro_arguments import AvroCodec, avro_fields

    if path.suffix != ".avsc":
        raise InvalidDefinition(f"{where}: arguments={str(path)!r} is no name of an .avsc file")
    file = inspect.getsourcefile(inspect.unwrap(handler))
    beside = Path(file).parent if file is not None else Path()
    schema = load_argument_schema(beside / path, queue=queue, type_=type_, where=where)
    names = [field["name"] for field in schema.value["fields"]]
    _check_names(names, where)
    taken = {parameter.name: parameter for parameter in parameters}
    for name, parameter in taken.items():
        if parameter.kind not in _KINDS:
            raise InvalidDefinition(f"{where}: parameter {parameter} has no name that a field could carry")
        if name not in names:
            raise InvalidDefinition(f"{where}: its parameter {name!r} is no field of {path}: {', '.join(names)}")
    for name in names:
        if name not in taken:
            raise InvalidDefinition(f"{where}: it has no parameter for the field {name!r} of {path}")
    struct = _struct(avro_fields(schema, {name: hints[name] for name in taken if name in hints}), where, type_)
    return Declared(type=struct, codec=_codec(lambda: AvroCodec(struct, schema), where), schema=_schema(struct, where))


def _check_names(names: Sequence[str], where: str) -> None:
    for name in names:
        if name in RESERVED_ARGUMENTS:
            raise InvalidDefinition(f"{where}: an argument cannot be called {name!r} (it is ctx.tenant)")
        if name.startswith("__"):
            raise InvalidDefinition(f"{where}: an argument cannot be called {name!r}")


def _args_type(
    parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any], where: str, type_: str
) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for parameter in parameters:
        if parameter.kind not in _KINDS:
            raise InvalidDefinition(f"{where}: parameter {parameter} has no name that a job's arguments could carry")
        _check_names([parameter.name], where)
        annotation = hints.get(parameter.name, Any)
        if annotation is JobContext:
            raise InvalidDefinition(f"{where}: the context is the first parameter")
        fields.append(_field(parameter, annotation))
    return _struct(fields, where, type_)


def _struct(fields: list[Any], where: str, type_: str) -> type[msgspec.Struct]:
    name = "".join(part.capitalize() for part in type_.replace("-", ".").replace("_", ".").split(".") if part)
    try:
        return msgspec.defstruct(f"{name}Args", fields, forbid_unknown_fields=True, kw_only=True, frozen=True)
    except (TypeError, ValueError) as error:
        raise InvalidDefinition(f"{where}: {error}") from None


def _field(parameter: inspect.Parameter, annotation: Any) -> tuple[Any, ...]:
    default = parameter.default
    if default is inspect.Parameter.empty:
        return (parameter.name, annotation)
    if isinstance(default, _MUTABLE):
        return (parameter.name, annotation, msgspec.field(default_factory=lambda: default.copy()))
    return (parameter.name, annotation, default)


def _codec(make: Callable[[], ArgumentCodec], where: str) -> ArgumentCodec:
    try:
        return make()
    except TypeError as error:
        raise InvalidDefinition(f"{where}: its arguments cannot be read from JSON: {error}") from None


def _schema(type_: type[Any], where: str) -> Mapping[str, Any]:
    try:
        return model_schema(type_)
    except Exception as error:  # hooks of the user's model: anything may come out
        raise InvalidDefinition(f"{where}: its arguments have no JSON form: {_last_line(error)}") from None


def _last_line(error: Exception) -> str:
    """What is wrong: libraries write advice for their own callers above it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
