"""Reads records into jobs: headers, handler, arguments. What is wrong with a record becomes its problem. No IO.

That goes for what nobody has foreseen, too: a worker that a record ends would end at the same one after each restart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from logqueue.jobs.cloudevents import FAMILY, read_event
from logqueue.jobs.errors import InvalidArguments, InvalidHeader, Undecodable, UnknownJobType
from logqueue.jobs.headers import NO_HEADERS, Origin, read_job_headers, read_origin, salvage_job_headers
from logqueue.jobs.job_ids import id_of_position
from logqueue.jobs.partitioning import DEFAULT_TENANT, MAX_TENANT_CHARS
from logqueue.jobs.payload import JSON_TYPE
from logqueue.jobs.texts import text_of
from logqueue_consumers.control.notes import read_details
from logqueue_consumers.job import Job
from logqueue_consumers.outcome import MAX_MESSAGE_CHARS
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.retrying.notes import resume

if TYPE_CHECKING:
    from logqueue.jobs.app import App
    from logqueue.jobs.payload import AvroLookup

log = structlog.get_logger(__name__)


class SchemaNotRead(Exception):
    """The value's schema id is not known here yet: whoever reads the schema topic again may ask once more."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"schema id {schema_id} was not read yet")


class JobReader:
    """Records of an app's queues -> jobs.

    An unknown schema id is no verdict at first: its producer may have registered it a moment ago. The job's problem
    is then SchemaNotRead, and Undecodable at the last try.
    """

    def __init__(self, app: App, group: str, *, avro: AvroLookup | None = None) -> None:
        self._app = app
        self._group = group
        self._avro = avro
        self._tenants: dict[bytes, str] = {}

    def _decoder_of(self, schema_id: int) -> Callable[[memoryview], Any] | None:
        decoder = self._avro(schema_id) if self._avro is not None else None
        if decoder is None:
            raise SchemaNotRead(schema_id)
        return decoder

    def read(self, record: Any, partition: OwnedPartition, *, is_last_try: bool = False) -> Job:
        """The job of a record; its `problem` is Undecodable, InvalidArguments or UnknownJobType where it cannot run."""
        try:
            return self._read(record, partition, is_last_try=is_last_try)
        except Exception as error:
            return self._unreadable(record, partition, _unforeseen(error, record, partition))

    def _read(self, record: Any, partition: OwnedPartition, *, is_last_try: bool) -> Job:
        headers, key, value = record.headers, record.key, record.value
        position = Origin(partition.topic, partition.partition, record.offset, self._group)
        origin, details = None, None
        try:
            tenant = self._tenants.get(key) or self._tenant(key)
            read = read_job_headers(headers) if headers else NO_HEADERS
            if partition.may_have_origin:
                origin, details = read_origin(headers), read_details(headers)
        except (InvalidHeader, Undecodable) as error:
            return self._unreadable(record, partition, error)
        first = position if origin is None else origin
        if read.tenant is not None:
            tenant = read.tenant
        type_, content_type, size = read.type, read.content_type, 0 if value is None else len(value)
        definition, arguments, problem = None, None, None
        try:
            if content_type is not None and content_type != JSON_TYPE and content_type.startswith(FAMILY):
                event = read_event(value or b"")
                type_, value, content_type = event.type, event.arguments(), event.datacontenttype
            definition = self._app.find(type_, queue=partition.queue)
            type_ = definition.type
            arguments = definition.codec.decode(value, content_type, self._avro if is_last_try else self._decoder_of)
        except (UnknownJobType, InvalidArguments, Undecodable, SchemaNotRead) as error:
            problem = error
        except Exception as error:  # whatever a user's model raises: its headers stand, and whoever waits for it hears
            problem = _unforeseen(error, record, partition)
        order = partition.order
        job = Job(
            record,
            partition,
            position.offset,
            size,
            read.id or id_of_position(first.topic, first.partition, first.offset),
            tenant,
            key if key is not None else tenant.encode(),
            first,
            record.timestamp if read.created_ms is None else read.created_ms,
            read,
            type_,
            read.attempt,
            tenant if order == "tenant" else None if order == "none" else (),
            definition,
            arguments,
            problem,
        )
        if details is not None:
            job.details = details
        if partition.retried and (known := partition.retried.get(job.offset)) is not None:
            resume(job, known)
        return job

    def _tenant(self, key: bytes | None) -> str:
        """The tenant of a key that is not among those remembered."""
        if not key:
            return DEFAULT_TENANT
        try:
            tenant = key.decode()
        except UnicodeDecodeError:
            raise Undecodable(f"The record's key {key[:40]!r} is not UTF-8 text: it names the tenant") from None
        if len(tenant) > MAX_TENANT_CHARS:
            raise Undecodable(f"The record's key is longer than {MAX_TENANT_CHARS} characters: it names the tenant")
        if len(self._tenants) >= _MAX_TENANTS:
            self._tenants.clear()
        self._tenants[key] = tenant
        return tenant

    def _unreadable(self, record: Any, partition: OwnedPartition, error: Exception) -> Job:
        """A job of which only the position is certain; what can be read of its headers says who waits for its end."""
        known = NO_HEADERS
        origin = Origin(partition.topic, partition.partition, record.offset, self._group)
        try:
            known = salvage_job_headers(record.headers)
            origin = read_origin(record.headers) or origin
        except InvalidHeader:
            pass
        except Exception:
            log.exception("headers not read", topic=origin.topic, partition=origin.partition, offset=origin.offset)
        key = record.key or DEFAULT_TENANT.encode()
        tenant = known.tenant or key.decode("utf-8", "replace")[:MAX_TENANT_CHARS]
        id_ = known.id or id_of_position(origin.topic, origin.partition, origin.offset)
        job = Job.of(record, partition, id=id_, tenant=tenant, origin=origin)
        job.type, job.headers = known.type, known
        job.problem = error if isinstance(error, Undecodable) else Undecodable(str(error))
        return job


def _unforeseen(error: Exception, record: Any, partition: OwnedPartition) -> Undecodable:
    log.exception("record not read", topic=partition.topic, partition=partition.partition, offset=record.offset)
    said = text_of(error, limit=MAX_MESSAGE_CHARS)
    return Undecodable(f"The record could not be read: {type(error).__name__}: {said}")


_MAX_TENANTS = 16_384
