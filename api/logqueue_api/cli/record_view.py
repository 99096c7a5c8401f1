"""A Kafka record as JSON and as one line for people. Knows no client."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

LONGEST_SHOWN_VALUE = 200
CONFLUENT_MAGIC = b"\x00"
CONFLUENT_HEADER_BYTES = 5
DEEPEST_SHOWN_VALUE = 200
"""Levels of a JSON value that is shown as one; a deeper one, which Python cannot write again, is shown as text."""


def record_document(record: Any) -> dict[str, Any]:
    """A record (aiokafka's ConsumerRecord) as JSON; bytes that are not text become `{"base64": ...}`."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": time_text(record.timestamp),
        "key": text_or_base64(record.key),
        "headers": headers_document(record.headers),
        "value": value_document(record.value),
    }


def headers_document(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, Any]:
    """Headers by name; of a name that is there twice the last one counts, as in Kafka's lastHeader."""
    return {name: text_or_base64(value) for name, value in headers}


def value_document(value: bytes | None) -> Any:
    """JSON values decoded, other text as text, the rest as base64 (with the schema id in Confluent framing)."""
    if value is None:
        return None
    try:
        document = json.loads(value)
        if not is_deep(document):
            return document
    except (ValueError, RecursionError):
        pass
    if value[:1] == CONFLUENT_MAGIC and len(value) >= CONFLUENT_HEADER_BYTES:
        return {"schema_id": int.from_bytes(value[1:5]), "base64": base64.b64encode(value[5:]).decode()}
    return text_or_base64(value)


def is_deep(document: Any, levels: int = DEEPEST_SHOWN_VALUE) -> bool:
    """Whether a decoded value has more levels of objects and arrays than are shown."""
    if not isinstance(document, (dict, list)):
        return False
    parts = document.values() if isinstance(document, dict) else document
    return levels == 0 or any(is_deep(part, levels - 1) for part in parts)


def text_or_base64(value: bytes | None) -> Any:
    """UTF-8 text, or `{"base64": ...}`, or None."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def record_line(record: Any) -> str:
    """`partition@offset  time  key  headers  value`, the value cut to what fits a screen."""
    shown = record_document(record)
    headers = " ".join(f"{name}={_plain(value)}" for name, value in shown["headers"].items())
    value = _plain(shown["value"])
    if len(value) > LONGEST_SHOWN_VALUE:
        value = value[: LONGEST_SHOWN_VALUE - 1] + "…"
    place = f"{record.partition}@{record.offset}"
    return "  ".join(part for part in (place, shown["timestamp"], _plain(shown["key"]), headers, value) if part)


def time_text(timestamp_ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339; `-` where there is none (-1)."""
    if timestamp_ms < 0:
        return "-"
    try:
        moment = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(timestamp_ms)  # a foreign producer may write any number
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # A record must not be able to move the cursor of whoever looks at it.
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
