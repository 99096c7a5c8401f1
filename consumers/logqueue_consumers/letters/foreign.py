"""Dead letters of others: what the headers of Spring Kafka, Kafka Connect, Kafka Streams and share groups say. Pure.

| written by                       | headers              | numbers          | source                           |
|----------------------------------|----------------------|------------------|----------------------------------|
| Spring Kafka (`@RetryableTopic`) | `kafka_dlt-*`        | big-endian bytes | spring-kafka, KafkaHeaders       |
| Kafka Connect                    | `__connect.errors.*` | text             | KIP-298, DeadLetterQueueReporter |
| Kafka Streams                    | `__streams.errors.*` | text             | KIP-1034                         |
| share groups                     | `__dlq.errors.*`     | text             | KIP-1191                         |

These names are read, never written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

_SPRING = "kafka_dlt-"
_CONNECT = "__connect.errors."
_STREAMS = "__streams.errors."
_SHARE = "__dlq.errors."
_BINARY_SIZES = (4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignLetter:
    """Where a record came from and why it is here, as far as another system says."""

    system: str
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    group: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    attempts: int | None = None


def read_foreign_letter(headers: Iterable[tuple[str, bytes]]) -> ForeignLetter | None:
    """What a foreign dead letter says of itself; None for a record that none of these systems wrote."""
    found = dict(headers)
    if f"{_SPRING}original-topic" in found or f"{_SPRING}exception-fqcn" in found:
        return _spring(found)
    if f"{_CONNECT}topic" in found:
        return _textual(found, _CONNECT, "connect", error="exception.class.name", message="exception.message")
    if f"{_STREAMS}topic" in found:
        return _textual(found, _STREAMS, "streams", error="exception", message="message")
    if f"{_SHARE}topic" in found:
        return _textual(found, _SHARE, "share-group", error=None, message="message")
    return None


def _spring(found: dict[str, bytes]) -> ForeignLetter:
    text, number = partial(_text, found), partial(_binary, found)
    # The listener's own exception wraps what the handler raised.
    error = text(f"{_SPRING}exception-cause-fqcn") or text(f"{_SPRING}exception-fqcn")
    return ForeignLetter(
        system="spring",
        topic=text(f"{_SPRING}original-topic"),
        partition=number(f"{_SPRING}original-partition"),
        offset=number(f"{_SPRING}original-offset"),
        group=text(f"{_SPRING}original-consumer-group"),
        error_type=None if error is None else error.rpartition(".")[2],
        error_message=text(f"{_SPRING}exception-message"),
        attempts=number("retry_topic-attempts"),
    )


def _textual(found: dict[str, bytes], prefix: str, system: str, *, error: str | None, message: str) -> ForeignLetter:
    text = partial(_text, found)
    name = None if error is None else text(prefix + error)
    return ForeignLetter(
        system=system,
        topic=text(f"{prefix}topic"),
        partition=_number(text(f"{prefix}partition")),
        offset=_number(text(f"{prefix}offset")),
        group=text(f"{prefix}group") or text(f"{prefix}connector.name"),
        error_type=None if name is None else name.rpartition(".")[2],
        error_message=text(prefix + message),
        attempts=_number(text(f"{prefix}delivery.count")),
    )


def _text(found: dict[str, bytes], name: str) -> str | None:
    """A header as text; None where there is none (Connect writes null values too)."""
    value = found.get(name)
    return None if value is None else value.decode("utf-8", "replace")


def _binary(found: dict[str, bytes], name: str) -> int | None:
    """A header as Java's ByteBuffer writes numbers, or in digits, as other clients do."""
    value = found.get(name)
    if value is None:
        return None
    if value.isdigit():  # four or eight bytes that are all digits would be a partition or offset beyond any log
        return _number(value.decode())
    if len(value) not in _BINARY_SIZES:
        return None
    number = int.from_bytes(value, "big", signed=True)
    return number if number >= 0 else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 19 else None
