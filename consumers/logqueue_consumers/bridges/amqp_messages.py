"""An AMQP 0-9-1 message as a job, and what we tell as a message. Pure: values in, values out.

| of the message | in the job |
|---|---|
| property `type`, else `--type` | type; with neither the queue's default type |
| body, `content_type` | arguments, as they are; one CloudEvent (`application/cloudevents+json`) is opened |
| property `message_id` | with the AMQP queue an idempotency key, so the job's id: a redelivery is the same job |
| header `job-tenant`, else `--tenant` | tenant |
| header `x-death` (RabbitMQ, dead lettering) | of its newest entry `amqp-death-reason`, ...; `amqp-deaths`: how many |
| exchange, routing key, `message_id`, `correlation_id`, `reply_to`, `app_id` | headers `amqp-...` |
| other headers that are text, numbers or times | headers of the same name |

AMQP's own texts (`message_id`, `type`, `content_type`, the routing key) have 255 bytes at most: of what we tell, a
longer id becomes its beginning and its SHA-256, any other is cut. The event, or the header `ce_id`, has the whole id.

All headers of a message are one frame, which RabbitMQ bounds (`frame_max`, 128 KiB): of what we tell, the largest that
are too many are left out, and those whose names are too long.

A body that is no job becomes one all the same, which its worker dead-letters: a rejected message might be gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from logqueue.jobs.cloudevents import is_event, read_event
from logqueue.jobs.errors import InvalidArguments, Undecodable
from logqueue.jobs.headers import MAX_KEY_CHARS, MAX_TYPE_CHARS, OWN_HEADERS, TENANT
from logqueue.jobs.partitioning import DEFAULT_TENANT, MAX_TENANT_CHARS
from logqueue.jobs.payload import JSON_TYPE
from logqueue.jobs.sending import PreparedJob, prepare_job
from logqueue_consumers.bridges.telling import Told

SOURCE: Final = "logqueue-rabbitmq"
MAX_HEADERS: Final = 32
"""Headers of a message that are handed on."""
MAX_HEADER_BYTES: Final = 1_000
MAX_TEXT_BYTES: Final = 255
"""Of a `shortstr` (AMQP 0-9-1, 4.2.5.3)."""

MAX_TABLE_BYTES: Final = 126 * 1024
"""Of all headers of a message that is told: beside them a frame has the other properties, of 255 bytes each."""


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it was delivered; `death` is the `x-death` header."""

    body: bytes
    type: str | None = None
    content_type: str | None = None
    message_id: str | None = None
    headers: Mapping[str, Any] = {}
    facts: Mapping[str, str | None] = {}
    """Where it came from: exchange, routing-key, correlation-id, ..."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a bridge makes of messages that say nothing themselves."""

    amqp_queue: str
    queue: str
    type: str | None = None
    tenant: str = DEFAULT_TENANT


def job_of(message: Received, target: Target, *, now_ms: int) -> PreparedJob:
    """The job of a message. Every message is one."""
    type_, body, content_type, key = message.type or target.type, message.body, message.content_type, message.message_id
    tenant = target.tenant
    if is_event(content_type):
        try:
            event = read_event(body)
            type_, body, content_type = event.type, event.arguments(), JSON_TYPE
            tenant, key = event.partitionkey or tenant, event.key
        except (InvalidArguments, Undecodable):
            key = message.message_id  # the worker says what is wrong with it
    given = message.headers.get(TENANT)
    if isinstance(given, str) and 0 < len(given) <= MAX_TENANT_CHARS:
        tenant = given
    return prepare_job(
        type=(type_ or "")[:MAX_TYPE_CHARS],
        queue=target.queue,
        value=body,
        source=SOURCE,
        now_ms=now_ms,
        tenant=tenant[:MAX_TENANT_CHARS],
        content_type=content_type or JSON_TYPE,
        headers=_headers(message),
        idempotency_key=None if key is None else _key(target.amqp_queue, key),
    )


def properties_of(told: Told) -> dict[str, Any]:
    """The properties of a message that is told; see `left_out` for its headers."""
    large = left_out(told)
    return {
        "message_id": _short_id(told.id),
        "type": short_text(told.type),
        "content_type": short_text(told.content_type),
        "headers": {name: text for name, text in told.headers.items() if name not in large},
    }


def left_out(told: Told) -> frozenset[str]:
    """The headers that are not told, since AMQP has no room for them: those of jobs and small ones come first."""
    sizes = {name: _field_bytes(name, text) for name, text in told.headers.items()}
    room, found = MAX_TABLE_BYTES, set()
    for name in sorted(sizes, key=lambda name: (name not in OWN_HEADERS, sizes[name])):
        if sizes[name] > room or len(name.encode()) > MAX_TEXT_BYTES:
            found.add(name)
        else:
            room -= sizes[name]
    return frozenset(found)


def _field_bytes(name: str, text: str) -> int:
    """Of a field in a table (AMQP 0-9-1, 4.2.5.5): length and name, kind, length and text."""
    return 1 + len(name.encode()) + 1 + 4 + len(text.encode())


def short_text(text: str, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """As much of a text as AMQP takes."""
    return text.encode()[:max_bytes].decode("utf-8", "ignore")


def _short_id(text: str) -> str:
    """An id that AMQP takes, the same for the same id and another for every other."""
    data = text.encode()
    if len(data) <= MAX_TEXT_BYTES:
        return text
    digest = hashlib.sha256(data).hexdigest()
    return f"{short_text(text, MAX_TEXT_BYTES - len(digest) - 1)}-{digest}"


def _key(amqp_queue: str, message_id: str) -> str:
    """The idempotency key of a message: the same id in another queue is another job."""
    text = f"amqp {amqp_queue} {message_id}"
    if len(text) <= MAX_KEY_CHARS and text.isprintable():
        return text
    return "amqp " + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _headers(message: Received) -> list[tuple[str, bytes]]:
    found = {f"amqp-{name}": text for name, text in message.facts.items() if text}
    if message.message_id:
        found["amqp-message-id"] = message.message_id
    found |= _deaths(message.headers.get("x-death"))
    for name, value in message.headers.items():
        if len(found) >= MAX_HEADERS:
            break
        if name not in OWN_HEADERS and name != "x-death" and (text := _text(value)) is not None:
            found.setdefault(name, text)
    return [(name, text.encode("utf-8", "replace")[:MAX_HEADER_BYTES]) for name, text in found.items()]


def _deaths(deaths: Any) -> dict[str, str]:
    """The newest of a message's deaths; RabbitMQ keeps one entry per queue and reason, newest first."""
    entries = [entry for entry in deaths if isinstance(entry, dict)] if isinstance(deaths, list) else []
    if not entries:
        return {}
    newest = entries[0]
    found = {f"amqp-death-{name}": _text(newest.get(name)) for name in ("reason", "queue", "exchange", "count", "time")}
    total = sum(entry["count"] for entry in entries if isinstance(entry.get("count"), int))
    return {name: text for name, text in found.items() if text is not None} | {"amqp-deaths": str(total)}


def _text(value: object) -> str | None:
    """A header's value as text; None for tables and lists."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case datetime():
            return value.isoformat()
        case bytes() | bytearray():
            return bytes(value).decode("utf-8", "replace")
        case _:
            return None
