"""One job in a worker's hands: its record and what was read from it. No IO."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from logqueue.jobs.headers import Failure, JobHeaders, Origin
from logqueue_consumers.partition import OwnedPartition

if TYPE_CHECKING:
    import msgspec

    from logqueue.jobs.control import Cancel
    from logqueue.jobs.definition import JobDefinition
    from logqueue_consumers.outgoing import Outgoing


class Job:
    """A record, read. `attempt` is the one that runs next (or now)."""

    __slots__ = (
        "arguments",
        "attempt",
        "cancel",
        "created_ms",
        "definition",
        "details",
        "due_ms",
        "first_failed_ms",
        "headers",
        "id",
        "is_over",
        "key",
        "lane",
        "last_failure",
        "offset",
        "origin",
        "partition",
        "problem",
        "record",
        "sent",
        "size",
        "started_us",
        "tenant",
        "type",
    )

    def __init__(self, record: Any, partition: OwnedPartition, *, id: str, tenant: str, origin: Origin) -> None:  # noqa: A002
        self.record = record
        """As aiokafka gives it: key, value and headers stay untouched."""
        self.partition = partition
        self.offset: int = record.offset
        self.size = len(record.value or b"")
        self.id = id
        self.tenant = tenant
        self.key: bytes = record.key if record.key is not None else tenant.encode()
        """What decides the partition of everything that is written about this job."""
        self.origin = origin
        """Where the job's first record is."""
        self.created_ms: int = record.timestamp
        self.headers = NO_HEADERS
        self.type: str | None = None
        self.attempt = 1
        self.lane: Hashable = None
        """Jobs of one lane run one at a time; None runs beside everything."""
        self.definition: JobDefinition[..., Any] | None = None
        self.arguments: msgspec.Struct | None = None
        self.problem: Exception | None = None
        """Why the job cannot run at all."""
        self.last_failure: Failure | None = None
        self.due_ms = 0
        """When the retry that waits in memory is due, after `last_failure`."""
        self.first_failed_ms: int | None = None
        """When its first failure was; None until it fails here."""
        self.started_us = 0
        self.sent: list[Outgoing] | None = None
        """Follow-up jobs of the attempt that runs; they go with its success and are dropped with its failure."""
        self.cancel: Cancel | None = None
        """Somebody asked for this job to be cancelled."""
        self.details: dict[str, Any] | None = None
        """What its statuses tell beside the states, as JSON values; replaced, never changed in place."""
        self.is_over = False
        """The attempt that `started_us` tells of has ended."""


NO_HEADERS = JobHeaders()
