"""The value of a job record: arguments as JSON, or as Avro in Confluent framing. Bytes <-> arguments; no IO."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from logqueue_schemas.framing import MAGIC, InvalidFrame, read_frame

from logqueue.jobs.errors import InvalidArguments, Undecodable

JSON_TYPE = "application/json"
AVRO_TYPES = frozenset({"application/avro", "avro/binary", "application/vnd.confluent.avro"})

# What a writer's schema id means: a decoder of the Avro body that follows the frame, or None if no one registered it.
AvroLookup = Callable[[int], "Callable[[memoryview], Any] | None"]

_encode = msgspec.json.Encoder().encode
_FIELD = re.compile(r"(?:required|unknown) field `([^`]*)`")
_PATH = re.compile(r" - at `\$\.?([^`]*)`")


class ArgumentCodec:
    """Arguments <-> bytes for one type of arguments (a msgspec.Struct made from a handler's signature)."""

    __slots__ = ("_decode", "_type")

    def __init__(self, type_: type[msgspec.Struct]) -> None:
        self._type = type_
        self._decode = msgspec.json.Decoder(type_).decode

    def encode(self, arguments: dict[str, Any]) -> bytes:
        """JSON of keyword arguments, checked exactly as the worker will check it; InvalidArguments names the field."""
        try:
            value = _encode(arguments)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise InvalidArguments(f"Arguments have no JSON form: {error}") from None
        self.decode_json(value)
        return value

    def decode(self, value: bytes | None, content_type: str | None, avro: AvroLookup | None = None) -> msgspec.Struct:
        """Arguments of a record's value.

        `content_type` None means JSON unless the value starts with the Confluent magic byte (no JSON text starts with
        byte 0). Undecodable: the bytes are not what they claim. InvalidArguments: well-formed, but not these arguments.
        """
        if value is None:
            raise Undecodable("The record has no value (a job's value is a JSON object of arguments)")
        if value[:1] == MAGIC or is_avro(content_type):
            return self._decode_avro(value, avro)
        if content_type is not None and not is_json(content_type):
            raise Undecodable(
                f"content-type {content_type!r} is not supported: use application/json or application/avro"
            )
        return self.decode_json(value)

    def decode_json(self, value: bytes) -> msgspec.Struct:
        """Arguments of JSON text; errors as `decode`."""
        try:
            return self._decode(value)
        except msgspec.ValidationError as error:
            raise invalid_arguments(error) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Undecodable(f"The value is not JSON: {error}") from None
        except RecursionError:
            raise Undecodable("The value is not JSON that can be read: nested too deeply") from None

    def _decode_avro(self, value: bytes, avro: AvroLookup | None) -> msgspec.Struct:
        try:
            schema_id, body = read_frame(value)
        except InvalidFrame as error:
            raise Undecodable(str(error)) from None
        decode = avro(schema_id) if avro is not None else None
        if decode is None:
            raise Undecodable(f"The value is Avro of schema id {schema_id}, which is not registered")
        try:
            arguments = decode(body)
        except Exception as error:  # fastavro raises whatever its reading of broken bytes ends in
            raise Undecodable(f"The value is not Avro of schema id {schema_id}: {error!r}") from None
        try:
            return msgspec.convert(arguments, self._type)
        except msgspec.ValidationError as error:
            raise invalid_arguments(error) from None


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
