"""One job on its way: options checked, arguments encoded, headers made. Pure but for the clock; `client.py` sends."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar
from zlib import crc32

import msgspec

from logqueue.ids import JobId
from logqueue.jobs.arguments import one_of
from logqueue.jobs.durations import Duration, parse_duration
from logqueue.jobs.errors import InvalidArguments, JobTooLarge
from logqueue.jobs.headers import (
    IDEMPOTENCY_KEY,
    PRIORITY,
    TENANT,
    WORKFLOW,
    Headers,
    check_extra_headers,
    due_headers,
    shared_headers,
    whole_headers,
)
from logqueue.jobs.job_ids import MAX_ID_CHARS, JobIds
from logqueue.jobs.partitioning import DEFAULT_TENANT, MAX_TENANT_CHARS
from logqueue.jobs.payload import JSON_TYPE
from logqueue.jobs.times import MAX_MS, to_ms
from logqueue.jobs.unique import check_key, keyed_job_id

if TYPE_CHECKING:
    from logqueue.jobs.argument_schema import ArgumentSchema
    from logqueue.jobs.definition import JobDefinition, Queue
    from logqueue.jobs.handle import JobHandle

P = ParamSpec("P")
R = TypeVar("R")

_IDS = JobIds()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_IDS.forget)
HEADER_OVERHEAD_BYTES = 12
SHARED_HEADERS_BYTES = 8 * 1024  # more than those take that every job has: its id, time, type, source, ...
OPTIONS = frozenset({"delay", "run_at", "expires", "id", "headers", "idempotency_key", "priority", "spread"})
"""What `with_` takes beside the tenant."""
MAX_SPREAD = 1_000
MAX_SPREAD_TENANT_CHARS = MAX_TENANT_CHARS - len(f"#{MAX_SPREAD}")


class PreparedJob(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job as it will stand in the log: everything but partition and offset."""

    id: JobId
    type: str
    queue: str
    tenant: str
    value: bytes
    created_ms: int
    shared: Headers | None
    """Headers that it shares with jobs of its type; None: `own` are all that there are."""
    own: Headers = ()
    is_keyed: bool = False
    """It has an idempotency key: the job may have been sent before."""
    priority: str | None = None
    """The class of the topic that it goes to; None for the queue's own."""
    key: str | None = None
    """The record's key, where it is not the tenant."""
    schema: ArgumentSchema | None = None
    """The Avro schema of the value, to be registered before it is sent; None for JSON."""

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """All headers of the record. Made when asked for: of many prepared jobs they would be most of the garbage."""
        if self.shared is None:
            return list(self.own)
        return whole_headers(self.id, self.created_ms, self.shared, self.own)

    def record_key(self) -> bytes:
        """What decides the partition of everything that is written about this job."""
        return (self.tenant if self.key is None else self.key).encode()


def prepare_job(
    *,
    type: str,  # noqa: A002 - CloudEvents' word
    queue: str,
    value: bytes,
    source: str,
    now_ms: int,
    tenant: str | None = None,
    id: str | None = None,  # noqa: A002 - the word users know
    not_before_ms: int | None = None,
    expires_ms: int | None = None,
    content_type: str = JSON_TYPE,
    headers: Headers | None = None,
    idempotency_key: str | None = None,
    priority: str | None = None,
    spread: int = 1,
    schema: ArgumentSchema | None = None,
) -> PreparedJob:
    """A job of encoded arguments; InvalidArguments if tenant or id cannot be one, or if it expires before it is due.

    `value` is taken as it is: check it against the job's arguments first. `headers` are checked extra headers.
    `priority` is a class with a topic of its own. Over `spread` keys go jobs that nothing ties to others of their
    tenant: no idempotency key, no headers of a workflow.
    """
    tenant = check_tenant(tenant) if tenant is not None else DEFAULT_TENANT
    own = headers if headers else ()
    if idempotency_key is not None:
        if id is not None:
            raise InvalidArguments("A job with an idempotency key has an id made from it", field="id")
        job_id = keyed_job_id(tenant=tenant, queue=queue, type_=type, key=check_key(idempotency_key))
        own = [*own, (IDEMPOTENCY_KEY, idempotency_key.encode())]
    else:
        job_id = JobId(check_id(id)) if id is not None else _IDS.next()
    key = None
    if spread > 1 and idempotency_key is None and not any(name == WORKFLOW for name, _ in own):
        key = spread_key(tenant, job_id, spread)
    if priority is not None:
        own = [*own, (PRIORITY, priority.encode())]
    if key is not None:
        own = [*own, (TENANT, tenant.encode())]
    if not_before_ms is not None or expires_ms is not None:
        if expires_ms is not None and expires_ms <= max(now_ms, not_before_ms or 0):
            raise InvalidArguments("The job would expire before it may run", field="expires")
        own = [*due_headers(not_before_ms, expires_ms), *own]
    return PreparedJob(
        id=job_id,
        type=type,
        queue=queue,
        tenant=tenant,
        value=value,
        created_ms=now_ms,
        shared=shared_headers(type, source, content_type),
        own=own,
        is_keyed=idempotency_key is not None,
        priority=priority,
        key=key,
        schema=schema,
    )


def spread_key(tenant: str, job_id: str, spread: int) -> str | None:
    """One of a tenant's `spread` keys, the same for the same job; None where it is the tenant itself."""
    number = crc32(job_id.encode()) % spread if len(tenant) <= MAX_SPREAD_TENANT_CHARS else 0
    return f"{tenant}#{number}" if number else None


class Sending(msgspec.Struct, Generic[P, R], frozen=True, kw_only=True, gc=False):
    """A job definition with the options of one sending; made by `JobDefinition.with_`."""

    definition: JobDefinition[P, R]
    tenant: str | None
    delay_s: float | None
    run_at_ms: int | None
    expires_s: float | None
    expires_at_ms: int | None
    job_id: str | None
    headers: Headers = ()
    idempotency_key: str | None = None
    priority: str | None = None
    spread: int = 1

    @classmethod
    def of(
        cls,
        definition: JobDefinition[P, R],
        *,
        tenant: str | None,
        delay: Duration | None,
        run_at: datetime | None,
        expires: Duration | datetime | None,
        job_id: str | None,
        headers: Mapping[str, str | bytes],
        idempotency_key: str | None = None,
        priority: str | None = None,
        spread: int | None = None,
    ) -> Sending[P, R]:
        """Check the options; InvalidArguments, InvalidDuration or InvalidHeader names the one that is wrong."""
        if delay is not None and run_at is not None:
            raise InvalidArguments("delay and run_at exclude each other", field="run_at")
        queue = definition.app.queue_of(definition)
        expires_s, expires_at_ms = (None, None) if expires is None else _expiry(expires)
        return cls(
            definition=definition,
            tenant=check_tenant(tenant) if tenant is not None else None,
            delay_s=parse_duration(delay) if delay is not None else None,
            run_at_ms=_instant(run_at, "run_at") if run_at is not None else None,
            expires_s=expires_s,
            expires_at_ms=expires_at_ms,
            job_id=check_id(job_id) if job_id is not None else None,
            headers=check_extra_headers(headers.items()) if headers else (),
            idempotency_key=check_key(idempotency_key) if idempotency_key is not None else None,
            priority=None
            if priority is None
            else check_class(priority, queue.priorities, default=queue.default_priority, queue=queue.name),
            spread=spread_of(definition, queue) if spread is None else _spread(definition, queue, spread),
        )

    def prepare(self, model: Any = None, /, *, tenant: str | None = None, **arguments: Any) -> PreparedJob:
        """The job, ready for `App.send_many`; InvalidArguments names the field that is wrong."""
        definition = self.definition
        if tenant is not None and self.tenant not in (None, tenant):
            raise InvalidArguments(
                f"with_(tenant={self.tenant!r}) and tenant={tenant!r} contradict each other: say it once",
                field="tenant",
            )
        now_ms = definition.app.clock.time_ms()
        return prepare_job(
            type=definition.type,
            queue=definition.queue,
            value=encoded(definition, arguments if model is None else one_of(model, arguments)),
            content_type=definition.codec.content_type,
            schema=definition.codec.schema,
            source=definition.app.name,
            now_ms=now_ms,
            tenant=self.tenant if tenant is None else tenant,
            id=self.job_id,
            not_before_ms=_later(now_ms, self.delay_s) if self.delay_s is not None else self.run_at_ms,
            expires_ms=_later(now_ms, self.expires_s) if self.expires_s is not None else self.expires_at_ms,
            headers=self.headers,
            idempotency_key=self.idempotency_key,
            priority=self.priority,
            spread=self.spread,
        )

    async def send(self, model: Any = None, /, *, tenant: str | None = None, **arguments: Any) -> JobHandle:
        """Put the job on the log; see JobDefinition.send."""
        job = self.prepare(model, tenant=tenant, **arguments)
        client = await self.definition.app.client()
        return await client.send(job)


def encoded(definition: JobDefinition[..., Any], arguments: Any) -> bytes:
    """The value of a record; InvalidArguments tells of an option of `with_` that stands among the arguments."""
    try:
        return definition.codec.encode(arguments)
    except InvalidArguments as error:
        if error.field not in OPTIONS or error.field in definition.codec.names:
            raise
        name = getattr(definition.handler, "__name__", "job")
        raise InvalidArguments(
            f"{error.field} is an option of the sending: write {name}.with_({error.field}=...).send(...)",
            field=error.field,
        ) from None


def check_class(priority: object, classes: Collection[str], *, default: str, queue: str) -> str | None:
    """The class whose topic a job of this priority goes to, None for the queue's own; InvalidArguments if none."""
    if priority is None or priority == default:
        return None
    if not isinstance(priority, str) or priority not in classes:
        known = ", ".join(sorted(classes)) or "none"
        raise InvalidArguments(f"Queue {queue!r} has no priority {priority!r}; its classes: {known}", field="priority")
    return priority


def check_spread(spread: object, *, order: str) -> int:
    """A number of keys itself, or InvalidArguments."""
    if isinstance(spread, bool) or not isinstance(spread, int) or not 1 <= spread <= MAX_SPREAD:
        raise InvalidArguments(f"spread={spread!r} is not 1 to {MAX_SPREAD}", field="spread")
    if spread > 1 and order != "none":
        raise InvalidArguments('Only jobs of a queue with order="none" can be spread', field="spread")
    return spread


def spread_of(definition: JobDefinition[..., Any], queue: Queue) -> int:
    """Over how many keys a tenant's jobs go. Unique ones are not spread: one owner has to see all of a tenant's."""
    return queue.spread if definition.unique is None else 1


def _spread(definition: JobDefinition[..., Any], queue: Queue, spread: object) -> int:
    wanted = check_spread(spread, order=queue.order)
    return wanted if definition.unique is None else 1


def check_tenant(tenant: object) -> str:
    """A tenant itself, or InvalidArguments."""
    if not isinstance(tenant, str) or not tenant or len(tenant) > MAX_TENANT_CHARS:
        raise InvalidArguments(f"A tenant is text of 1 to {MAX_TENANT_CHARS} characters", field="tenant")
    return tenant if tenant.isascii() else _encodable(tenant, "tenant")


def check_id(job_id: object) -> str:
    """A job id itself, or InvalidArguments."""
    if not isinstance(job_id, str) or not job_id or len(job_id) > MAX_ID_CHARS or not job_id.isprintable():
        raise InvalidArguments(f"A job id is text of 1 to {MAX_ID_CHARS} printable characters", field="id")
    return _encodable(job_id, "id")


def _encodable(text: str, field: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArguments("The text has no UTF-8 form", field=field) from None
    return text


def _expiry(expires: Duration | datetime) -> tuple[float | None, int | None]:
    """A number of seconds from the sending, or a time."""
    if isinstance(expires, datetime):
        return None, _instant(expires, "expires")
    return parse_duration(expires), None


def _instant(moment: object, field: str) -> int:
    if not isinstance(moment, datetime):
        raise InvalidArguments(f"{field}={moment!r} is not a datetime (with a time zone)", field=field)
    try:
        return to_ms(moment)
    except (ValueError, TypeError) as error:
        raise InvalidArguments(f"{field}: {error}", field=field) from None


def _later(now_ms: int, seconds: float) -> int:
    return min(MAX_MS, now_ms + round(seconds * 1000))


def check_job_size(job: PreparedJob, max_bytes: int) -> None:
    """JobTooLarge if the record is above `max_bytes`."""
    if len(job.value) + SHARED_HEADERS_BYTES + (_headers_bytes(job.own) if job.own else 0) <= max_bytes:
        return
    size = len(job.value) + _headers_bytes(job.headers)
    if size > max_bytes:
        raise JobTooLarge(
            f"Job {job.id} of type {job.type!r} is {size:,} bytes; at most {max_bytes:,} are sent"
            " (LOGQUEUE_MAX_RECORD_BYTES). Store the data elsewhere and send a reference to it."
        )


def _headers_bytes(headers: Headers) -> int:
    return sum([len(name) + len(value) + HEADER_OVERHEAD_BYTES for name, value in headers])
