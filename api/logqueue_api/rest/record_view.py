"""A record of the log as JSON: whatever its value is, something to look at. Values only."""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec
import orjson
from logqueue_consumers.view.records import Record
from logqueue_schemas.avro import content_id
from logqueue_schemas.framing import MAGIC
from logqueue_schemas.job_status import SCHEMA, InvalidStatus, StatusCodec

from logqueue_api.rest.wire import read_value, time_text

_CODEC: Final = StatusCodec(content_id(SCHEMA))


def record_document(record: Record) -> dict[str, Any]:
    """The record with its value as JSON, as a decoded status, as text, or in base64 (`value_format` says which)."""
    value, value_format = show_value(record.value)
    return {
        "offset": record.offset,
        "timestamp": None if record.timestamp < 0 else time_text(record.timestamp * 1000),
        "key": None if record.key is None else _text(record.key),
        "headers": [{"name": name, "value": _text(held or b"")} for name, held in record.headers],
        "value": value,
        "value_format": value_format,
        "size": len(record.key or b"") + len(record.value or b""),
    }


def show_value(value: bytes | None) -> tuple[Any, str | None]:
    """A value to look at, and what it is: json, avro (a status), text, base64, or None for no value."""
    if value is None:
        return None, None
    if value[:1] == MAGIC:
        try:
            return _status_document(value), "avro"
        except InvalidStatus:
            return base64.b64encode(value).decode(), "base64"
    try:
        return read_value(value), "json"
    except orjson.JSONDecodeError:
        pass
    try:
        return value.decode(), "text"
    except UnicodeDecodeError:
        return base64.b64encode(value).decode(), "base64"


def _status_document(value: bytes) -> dict[str, Any]:
    document = msgspec.structs.asdict(_CODEC.decode(value))
    for name in ("at", "created_at", "started_at", "finished_at", "due_at"):
        document[name] = time_text(document[name])
    if document["result"] is not None:
        document["result"], _ = show_value(document["result"])
    if document["details"] is not None:
        document["details"], _ = show_value(document["details"])
    error = document["error"]
    if error is not None:
        document["error"] = {"type": error.type, "message": error.message, "class": error.error_class}
    return document


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
