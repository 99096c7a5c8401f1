"""One job in a worker's hands: its record and what was read from it. No IO."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import msgspec

from logqueue.jobs.headers import NO_HEADERS, Failure, JobHeaders, Origin
from logqueue_consumers.partitions.partition import OwnedPartition

if TYPE_CHECKING:
    from logqueue.jobs.control import Cancel
    from logqueue.jobs.definition import JobDefinition
    from logqueue_consumers.writing.outgoing import Outgoing


class Job(msgspec.Struct, eq=False):
    """A record, read. `attempt` is the one that runs next (or now). Each job equals itself alone."""

    record: Any
    """As aiokafka gives it: key, value and headers stay untouched."""
    partition: OwnedPartition
    offset: int
    size: int
    """Bytes of the value."""
    id: str
    tenant: str
    key: bytes
    """What decides the partition of everything that is written about this job."""
    origin: Origin
    """Where the job's first record is."""
    created_ms: int
    headers: JobHeaders = NO_HEADERS
    type: str | None = None
    attempt: int = 1
    lane: Hashable = None
    """Jobs of one lane run one at a time; None runs beside everything."""
    definition: JobDefinition[..., Any] | None = None
    arguments: Any = None
    problem: Exception | None = None
    """Why the job cannot run at all."""
    last_failure: Failure | None = None
    due_ms: int = 0
    """When the retry that waits in memory is due, after `last_failure`."""
    first_failed_ms: int | None = None
    """When its first failure was; None until it fails here."""
    started_us: int = 0
    sent: list[Outgoing] | None = None
    """Follow-up jobs of the attempt that runs; they go with its success and are dropped with its failure."""
    cancel: Cancel | None = None
    """Somebody asked for this job to be cancelled."""
    details: dict[str, Any] | None = None
    """What its statuses tell beside the states, as JSON values; replaced, never changed in place."""
    is_over: bool = False
    """The attempt that `started_us` tells of has ended."""

    @classmethod
    def of(cls, record: Any, partition: OwnedPartition, *, id: str, tenant: str, origin: Origin) -> Job:  # noqa: A002
        """A record of which only this much is known."""
        key = record.key if record.key is not None else tenant.encode()
        size = len(record.value or b"")
        return cls(record, partition, record.offset, size, id, tenant, key, origin, record.timestamp)
