"""Names, partitions and configurations of the job topics. Knows no client: `admin.py` creates them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from logqueue.jobs.errors import InvalidDefinition

QUEUE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,99}", re.ASCII)
PRIORITY_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
GROUP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
PREFIX = re.compile(r"[A-Za-z0-9._-]{0,32}", re.ASCII)  # with the names' own bounds: at most Kafka's 249 characters

JOBS_PARTITIONS = 16
DLQ_PARTITIONS = 4
PARKED_PARTITIONS = 1
STATUS_PARTITIONS = 4
CONTROL_PARTITIONS = 1
FLOWS_PARTITIONS = STATUS_PARTITIONS
WORKERS_PARTITIONS = 1
SCHEDULES_PARTITIONS = 4
SCHEMAS_PARTITIONS = 1  # one partition: versions and ids are decided by the order of the records
AUDIT_PARTITIONS = 1
STEPS_PARTITIONS = 16
OUTBOX_PARTITIONS = 1
MAX_PARTITIONS = 10_000


class TopicKind(StrEnum):
    """What a topic of the job system is for."""

    JOBS = "jobs"
    RETRY = "retry"
    DLQ = "dlq"
    PARKED = "parked"
    STATUS = "status"
    CONTROL = "control"
    SCHEMAS = "schemas"
    AUDIT = "audit"
    STEPS = "steps"
    WORKERS = "workers"
    UNIQUE = "unique"
    FLOWS = "flows"
    SCHEDULES = "schedules"
    OUTBOX = "outbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRole:
    """What a topic name says: its kind, and the queue, group and priority class where it has them."""

    kind: TopicKind
    queue: str | None = None
    group: str | None = None
    priority: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic as it is to be created; replication is the broker's default (-1).

    `like` names a topic whose number of partitions counts instead of `partitions` if it exists: a key is then in the
    same-numbered partition of both.
    """

    name: str
    partitions: int
    like: str | None = None
    configs: dict[str, str] = field(default_factory=dict)


# Time retention on Kafka deletes what no one has processed: job topics keep everything.
_KEEP = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
# A record that moves on grows by headers: the largest one that a job topic takes must still fit.
_KEEP_MOVED = {**_KEEP, "max.message.bytes": str(1_048_588 + 64 * 1024)}
_COMPACT = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"}
# The active segment is never compacted: it must roll by time too, or a rebuild reads every status ever written.
_STATUS = {
    "cleanup.policy": "compact,delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "segment.bytes": str(128 * 1024 * 1024),
    "segment.ms": str(24 * 3600 * 1000),
}
# Heartbeats: only the last one of each worker matters, and only while the worker may live.
_WORKERS = {
    "cleanup.policy": "compact,delete",
    "min.cleanable.dirty.ratio": "0.1",
    "retention.ms": str(3600 * 1000),
    "segment.ms": str(600 * 1000),
    "delete.retention.ms": str(3600 * 1000),
}
# Results of steps are withdrawn when their job ends; what a crash leaves behind goes after a month.
_STEPS = {
    "cleanup.policy": "compact,delete",
    "min.cleanable.dirty.ratio": "0.1",
    "retention.ms": str(30 * 24 * 3600 * 1000),
    "segment.ms": str(6 * 3600 * 1000),
}
# Jobs that wait here leave by tombstones; what is compacted away need not be read by the next owner.
_SCHEDULES = {
    **_COMPACT,
    "max.message.bytes": _KEEP_MOVED["max.message.bytes"],
    "segment.bytes": str(64 * 1024 * 1024),
    "segment.ms": str(6 * 3600 * 1000),
    "delete.retention.ms": str(24 * 3600 * 1000),
}

# A relay that starts reads all of it; each of its batches replaces the one before.
_OUTBOX = {**_COMPACT, "segment.bytes": str(16 * 1024 * 1024), "segment.ms": str(3600 * 1000)}


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The names of the topics under a prefix (`LOGQUEUE_TOPIC_PREFIX`, empty by default)."""

    prefix: str = ""

    def __post_init__(self) -> None:
        if not PREFIX.fullmatch(self.prefix):
            raise InvalidDefinition(f"Topic prefix {self.prefix!r} is not 0 to 32 of A-Z a-z 0-9 . _ -")

    def jobs(self, queue: str, priority: str | None = None) -> str:
        """Where the jobs of a queue (of a priority class that is not its default) are; any client may produce here."""
        topic = f"{self.prefix}jobs.{check_queue(queue)}"
        return topic if priority is None else f"{topic}.{check_priority(priority)}"

    def retry(self, queue: str, group: str) -> str:
        """Where a group's jobs wait for a later attempt."""
        return f"{self.prefix}retry.{check_queue(queue)}.{check_group(group)}"

    def dlq(self, queue: str, group: str) -> str:
        """Where a group's dead letters are."""
        return f"{self.prefix}dlq.{check_queue(queue)}.{check_group(group)}"

    def parked(self, queue: str, group: str) -> str:
        """Where a group keeps jobs of types that none of its workers knows."""
        return f"{self.prefix}parked.{check_queue(queue)}.{check_group(group)}"

    def unique(self, queue: str, group: str) -> str:
        """Where a group keeps which idempotency keys and unique places of a queue are taken."""
        return f"{self.prefix}unique.{check_queue(queue)}.{check_group(group)}"

    @property
    def flows(self) -> str:
        """Workflows, partitioned by tenant."""
        return f"{self.prefix}jobs.flows"

    @property
    def status(self) -> str:
        """The latest state of every job, partitioned by tenant."""
        return f"{self.prefix}jobs.status"

    @property
    def control(self) -> str:
        """Job definitions and operator commands."""
        return f"{self.prefix}jobs.control"

    @property
    def workers(self) -> str:
        """The last heartbeat of every worker process."""
        return f"{self.prefix}jobs.workers"

    @property
    def audit(self) -> str:
        """Every operator command, with who and when; nothing is compacted away."""
        return f"{self.prefix}jobs.audit"

    @property
    def steps(self) -> str:
        """Results of steps of jobs that have not ended, partitioned by tenant."""
        return f"{self.prefix}jobs.steps"

    @property
    def schedules(self) -> str:
        """Jobs that wait long, partitioned by tenant, and the cron schedules, in partition 0."""
        return f"{self.prefix}jobs.schedules"

    @property
    def outbox(self) -> str:
        """What the relays of outbox tables moved last."""
        return f"{self.prefix}jobs.outbox"

    @property
    def schemas(self) -> str:
        """Avro schemas, in Confluent's layout."""
        return f"{self.prefix}_schemas"

    def role(self, topic: str) -> TopicRole | None:
        """What a topic is for, or None if it is none of ours."""
        if not topic.startswith(self.prefix):
            return None
        fixed = {
            self.status: TopicKind.STATUS,
            self.control: TopicKind.CONTROL,
            self.schemas: TopicKind.SCHEMAS,
            self.workers: TopicKind.WORKERS,
            self.flows: TopicKind.FLOWS,
            self.schedules: TopicKind.SCHEDULES,
            self.audit: TopicKind.AUDIT,
            self.steps: TopicKind.STEPS,
            self.outbox: TopicKind.OUTBOX,
        }
        if topic in fixed:
            return TopicRole(kind=fixed[topic])
        return _role_of(topic[len(self.prefix) :].split(".", 2))

    def jobs_spec(self, queue: str, *, partitions: int = JOBS_PARTITIONS, priority: str | None = None) -> TopicSpec:
        """The job topic of one queue, or of a priority class of it with as many partitions."""
        name = self.jobs(queue, priority)
        like = None if priority is None else self.jobs(queue)
        return TopicSpec(name=name, partitions=partitions, like=like, configs=dict(_KEEP))

    def group_specs(self, queue: str, group: str, *, partitions: int = JOBS_PARTITIONS) -> list[TopicSpec]:
        """Retry, dead-letter and parked topics of a group for one queue.

        The retry topic has as many partitions as the job topic (`partitions` unless that exists): a tenant's jobs and
        retries then have one owner.
        """
        retry, like = self.retry(queue, group), self.jobs(queue)
        return [
            TopicSpec(name=retry, partitions=partitions, like=like, configs=dict(_KEEP_MOVED)),
            TopicSpec(name=self.dlq(queue, group), partitions=DLQ_PARTITIONS, configs=dict(_KEEP_MOVED)),
            TopicSpec(name=self.parked(queue, group), partitions=PARKED_PARTITIONS, configs=dict(_KEEP_MOVED)),
        ]

    def unique_spec(self, queue: str, group: str, *, partitions: int = JOBS_PARTITIONS) -> TopicSpec:
        """The topic of taken places, with the partitions of the job topic."""
        return TopicSpec(
            name=self.unique(queue, group), partitions=partitions, like=self.jobs(queue), configs=dict(_COMPACT)
        )

    def flows_spec(self) -> TopicSpec:
        """The topic of workflows, with the partitions of the status topic."""
        return TopicSpec(name=self.flows, partitions=FLOWS_PARTITIONS, like=self.status, configs=dict(_COMPACT))

    def status_spec(self) -> TopicSpec:
        """The status topic."""
        return TopicSpec(name=self.status, partitions=STATUS_PARTITIONS, configs=dict(_STATUS))

    def control_spec(self) -> TopicSpec:
        """The control topic."""
        return TopicSpec(name=self.control, partitions=CONTROL_PARTITIONS, configs=dict(_COMPACT))

    def schemas_spec(self) -> TopicSpec:
        """The schema topic (Confluent: one partition, compacted)."""
        return TopicSpec(name=self.schemas, partitions=SCHEMAS_PARTITIONS, configs=dict(_COMPACT))

    def workers_spec(self) -> TopicSpec:
        """The topic of heartbeats."""
        return TopicSpec(name=self.workers, partitions=WORKERS_PARTITIONS, configs=dict(_WORKERS))

    def schedules_spec(self) -> TopicSpec:
        """The topic of what waits for a time."""
        return TopicSpec(name=self.schedules, partitions=SCHEDULES_PARTITIONS, configs=dict(_SCHEDULES))

    def audit_spec(self) -> TopicSpec:
        """The topic of operator commands: one partition, so they have one order."""
        return TopicSpec(name=self.audit, partitions=AUDIT_PARTITIONS, configs=dict(_KEEP))

    def steps_spec(self) -> TopicSpec:
        """The topic of results of steps."""
        return TopicSpec(name=self.steps, partitions=STEPS_PARTITIONS, configs=dict(_STEPS))

    def outbox_spec(self) -> TopicSpec:
        """The topic of what relays remember."""
        return TopicSpec(name=self.outbox, partitions=OUTBOX_PARTITIONS, configs=dict(_OUTBOX))

    def shared_specs(self) -> list[TopicSpec]:
        """The topics that exist once: status, control, schemas."""
        return [self.status_spec(), self.control_spec(), self.schemas_spec()]


def check_queue(name: str) -> str:
    """The queue name itself, or InvalidDefinition."""
    if not QUEUE_NAME.fullmatch(name):
        raise InvalidDefinition(
            f"Queue name {name!r} is not of the form [a-z0-9][a-z0-9-]* with at most 100 characters"
        )
    if name in _RESERVED_QUEUES:
        raise InvalidDefinition(f"Queue name {name!r} is taken: jobs.{name} is a topic of logqueue itself")
    return name


def check_priority(name: str) -> str:
    """The name of a priority class itself, or InvalidDefinition."""
    if not isinstance(name, str) or not PRIORITY_NAME.fullmatch(name):
        raise InvalidDefinition(f"Priority {name!r} is not of the form [a-z][a-z0-9-]* with at most 32 characters")
    return name


def check_group(name: str) -> str:
    """The group (or app) name itself, or InvalidDefinition."""
    if not isinstance(name, str) or not GROUP_NAME.fullmatch(name):
        raise InvalidDefinition(
            f"Name {name!r} is not of the form [A-Za-z0-9][A-Za-z0-9._-]* with at most 100 characters"
        )
    return name


def check_partitions(count: int) -> int:
    """A partition count itself, or InvalidDefinition."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_PARTITIONS:
        raise InvalidDefinition(f"partitions={count!r} is not a number from 1 to {MAX_PARTITIONS}")
    return count


def unique_specs(specs: Iterable[TopicSpec]) -> list[TopicSpec]:
    """The specs without repeated names, in order."""
    return list({spec.name: spec for spec in specs}.values())


_RESERVED_QUEUES = frozenset({"status", "control", "schedules", "workers", "flows", "audit", "steps", "outbox"})
_GROUP_KINDS = frozenset({TopicKind.RETRY, TopicKind.DLQ, TopicKind.PARKED, TopicKind.UNIQUE})


def _role_of(parts: list[str]) -> TopicRole | None:
    match parts:
        case ["jobs", queue] if QUEUE_NAME.fullmatch(queue) and queue not in _RESERVED_QUEUES:
            return TopicRole(kind=TopicKind.JOBS, queue=queue)
        case ["jobs", queue, priority] if QUEUE_NAME.fullmatch(queue) and queue not in _RESERVED_QUEUES:
            if not PRIORITY_NAME.fullmatch(priority):
                return None
            return TopicRole(kind=TopicKind.JOBS, queue=queue, priority=priority)
        case [kind, queue, group] if kind in _GROUP_KINDS and QUEUE_NAME.fullmatch(queue):
            if not GROUP_NAME.fullmatch(group):
                return None
            return TopicRole(kind=TopicKind(kind), queue=queue, group=group)
        case _:
            return None
