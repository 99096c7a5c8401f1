"""The value of a job record: arguments as JSON, bare or in Confluent framing, or as Avro in it. Bytes <-> arguments."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from logqueue_schemas.framing import MAGIC, InvalidFrame, read_frame

from logqueue.jobs.errors import InvalidArguments, Undecodable

if TYPE_CHECKING:
    from logqueue.jobs.argument_schema import ArgumentSchema

JSON_TYPE = "application/json"
AVRO_TYPES = frozenset({"application/avro", "avro/binary", "application/vnd.confluent.avro"})

# What a writer's schema id means: a decoder of the body that follows the frame (`json_body` under a JSON Schema), or
# None if no one registered it. A reader's schema may be given to one of Avro beside the body.
AvroLookup = Callable[[int], "Callable[..., Any] | None"]

_encode = msgspec.json.Encoder().encode
_FIELD = re.compile(r"(?:required|unknown) field `([^`]*)`")
_PATH = re.compile(r" - at `\$\.?([^`]*)`")


class ArgumentCodec:
    """Arguments <-> bytes for one type of arguments (a msgspec.Struct made from a handler's signature)."""

    __slots__ = ("_decode", "_type", "names")

    content_type = JSON_TYPE
    """Of what `encode` makes."""
    schema: ArgumentSchema | None = None
    """The Avro schema of what `encode` makes, which has to be registered before it is sent."""

    def __init__(self, type_: type[msgspec.Struct]) -> None:
        self._type = type_
        self._decode = msgspec.json.Decoder(type_).decode
        self.names: tuple[str, ...] = type_.__struct_fields__

    def encode(self, arguments: Any) -> bytes:
        """The value of keyword arguments, checked exactly as the worker will check it.

        InvalidArguments names the field that is wrong.
        """
        if not isinstance(arguments, dict):
            raise InvalidArguments(f"Arguments are given by their names, not by position: {arguments!r:.100}")
        value = json_of(arguments)
        self.decode_json(value)
        return value

    def encode_json(self, arguments: Any) -> bytes:
        """JSON of decoded arguments, for `decode_json`."""
        return _encode(arguments)

    def decode(self, value: bytes | None, content_type: str | None, avro: AvroLookup | None = None) -> Any:
        """Arguments of a record's value.

        `content_type` None means JSON unless the value starts with the Confluent magic byte (no JSON text starts with
        byte 0). Undecodable: the bytes are not what they claim. InvalidArguments: well-formed, but not these arguments.
        """
        if value is None:
            raise Undecodable("The record has no value (a job's value is a JSON object of arguments)")
        is_framed = value.startswith(MAGIC)
        if not is_framed and (content_type is None or content_type == JSON_TYPE):
            return self.decode_json(value)
        if is_framed or is_avro(content_type):
            return self._decode_framed(value, avro)
        if content_type is not None and not is_json(content_type):
            raise Undecodable(
                f"content-type {content_type!r} is not supported: use application/json or application/avro"
            )
        return self.decode_json(value)

    def decode_json(self, value: bytes) -> Any:
        """Arguments of JSON text; errors as `decode`."""
        try:
            return self._decode(value)
        except msgspec.ValidationError as error:
            raise invalid_arguments(error) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Undecodable(f"The value is not JSON: {error}") from None
        except RecursionError:
            raise Undecodable("The value is not JSON that can be read: nested too deeply") from None

    def _decode_framed(self, value: bytes, avro: AvroLookup | None) -> Any:
        try:
            schema_id, body = read_frame(value)
        except InvalidFrame as error:
            raise Undecodable(str(error)) from None
        decode = avro(schema_id) if avro is not None else None
        if decode is None:
            raise Undecodable(f"The value is framed with schema id {schema_id}, which is not registered")
        if decode is json_body:
            return self.decode_json(bytes(body))
        try:
            arguments = self._read(decode, body)
        except Exception as error:  # fastavro raises whatever its reading of broken bytes ends in
            raise Undecodable(f"The value is not Avro of schema id {schema_id}: {error!r}") from None
        return self._convert(arguments)

    def _read(self, decode: Callable[..., Any], body: memoryview) -> Any:
        return decode(body)

    def _convert(self, arguments: Any) -> Any:
        try:
            return msgspec.convert(arguments, self._type)
        except msgspec.ValidationError as error:
            raise invalid_arguments(error) from None


def json_body(body: memoryview, reader: Any = None) -> Any:
    """The value of a body that is JSON: what follows the frame of a JSON Schema."""
    return msgspec.json.decode(body)


def json_of(arguments: Any) -> bytes:
    """JSON of arguments; InvalidArguments if they have none."""
    try:
        return _encode(arguments)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidArguments(f"Arguments have no JSON form: {error}") from None


def argument_values(arguments: Any) -> dict[str, Any]:
    """Decoded arguments by their names, as values that have a JSON form."""
    if isinstance(arguments, msgspec.Struct):
        return {name: getattr(arguments, name) for name in arguments.__struct_fields__}
    values: dict[str, Any] = arguments.model_dump(mode="json")
    return values


def invalid_arguments(error: msgspec.ValidationError) -> InvalidArguments:
    """InvalidArguments of msgspec's error, with the field that it names."""
    text = str(error)
    path = _PATH.search(text)
    name = _FIELD.search(text)
    parts = [m.group(1) for m in (path, name) if m is not None and m.group(1)]
    return InvalidArguments(text, field=".".join(parts) or None)


def encode_result(result: object) -> bytes:
    """JSON of a handler's result; TypeError or ValueError if it has none."""
    return _encode(result)


def is_json(content_type: str) -> bool:
    """Whether a media type is JSON: application/json, text/json or any `+json`, whatever its parameters."""
    media = _media(content_type)
    return media in (JSON_TYPE, "text/json") or media.endswith("+json")


def is_avro(content_type: str | None) -> bool:
    """Whether a media type is Avro."""
    return content_type is not None and _media(content_type) in AVRO_TYPES


def _media(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
