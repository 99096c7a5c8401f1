"""Arguments as a model of the user's: a msgspec.Struct or a pydantic BaseModel, given to the handler. No IO."""

from __future__ import annotations

import re
import sys
from typing import Any

import msgspec

from logqueue.jobs.errors import InvalidArguments, Undecodable
from logqueue.jobs.payload import ArgumentCodec, json_of

_NAMED = re.compile(r"argument '([^']*)'")


def is_model(annotation: Any) -> bool:
    """Whether it is a class of either kind."""
    return isinstance(annotation, type) and (issubclass(annotation, msgspec.Struct) or is_pydantic(annotation))


def is_pydantic(annotation: type[Any]) -> bool:
    """Whether it is a pydantic model. Whoever has one has imported pydantic; we do not."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(annotation, pydantic.BaseModel)


def model_codec(model: type[Any]) -> ArgumentCodec:
    """The codec of a model; TypeError if its values have no JSON object."""
    if is_pydantic(model):
        return PydanticCodec(model)
    if model.__struct_config__.array_like:
        raise TypeError(f"{model.__name__} is array_like, and the value of a job is a JSON object")
    return StructCodec(model)


def model_schema(model: type[Any]) -> dict[str, Any]:
    """The JSON Schema of what `encode` makes: of a model, or of a struct made from a signature."""
    schema: dict[str, Any] = model.model_json_schema() if is_pydantic(model) else msgspec.json.schema(model)
    return schema


class StructCodec(ArgumentCodec):
    """Instances of a msgspec.Struct, or its fields by name."""

    __slots__ = ()

    def encode(self, arguments: Any) -> bytes:
        """JSON of an instance, or of one made from keyword arguments; see ArgumentCodec."""
        if not isinstance(arguments, self._type):
            arguments = _made(self._type, arguments)
        value = json_of(arguments)
        self.decode_json(value)
        return value


class PydanticCodec(ArgumentCodec):
    """Instances of a pydantic model, or its fields by name. On the log are its aliases, where it has some."""

    __slots__ = ("_invalid", "_model")

    def __init__(self, model: type[Any]) -> None:
        from pydantic import ValidationError

        self._model = model
        self._invalid = ValidationError
        self.names = tuple(model.model_fields)

    def encode(self, arguments: Any) -> bytes:
        """JSON of an instance, or of one made from keyword arguments; see ArgumentCodec."""
        if not isinstance(arguments, (dict, self._model)):
            raise InvalidArguments(f"The arguments are a {self._model.__name__}, not a {type(arguments).__name__}")
        try:
            made = arguments if isinstance(arguments, self._model) else self._model.model_validate(arguments)
            value = self.encode_json(made)
        except self._invalid as error:
            raise _refused(error) from None
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArguments(f"Arguments have no JSON form: {error}") from None
        self.decode_json(value)
        return value

    def encode_json(self, arguments: Any) -> bytes:
        """JSON of an instance."""
        text: str = arguments.model_dump_json(by_alias=True)
        return text.encode()

    def decode_json(self, value: bytes) -> Any:
        """An instance of JSON text; errors as ArgumentCodec.decode."""
        try:
            return self._model.model_validate_json(value)
        except self._invalid as error:
            if any(one["type"] == "json_invalid" for one in error.errors()):
                raise Undecodable(f"The value is not JSON: {error.errors()[0]['msg']}") from None
            raise _refused(error) from None
        except (UnicodeDecodeError, RecursionError) as error:
            raise Undecodable(f"The value is not JSON that can be read: {error}") from None

    def _convert(self, arguments: Any) -> Any:
        try:
            return self._model.model_validate(arguments)
        except self._invalid as error:
            raise _refused(error) from None


def _made(model: type[Any], arguments: Any) -> Any:
    if not isinstance(arguments, dict):
        raise InvalidArguments(f"The arguments are a {model.__name__}, not a {type(arguments).__name__}")
    try:
        return model(**arguments)
    except TypeError as error:
        name = _NAMED.search(str(error))
        raise InvalidArguments(str(error), field=name.group(1) if name is not None else None) from None
    except ValueError as error:  # of its own __post_init__
        raise InvalidArguments(str(error)) from None


def _refused(error: Any) -> InvalidArguments:
    """InvalidArguments of pydantic's error, with the first field that it names."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or None
    text = f"{first['msg']} - at `{field}`" if field else str(first["msg"])
    return InvalidArguments(text, field=field)
