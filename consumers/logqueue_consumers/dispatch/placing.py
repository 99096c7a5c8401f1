"""Places jobs: class, weights and buckets of each, from what is declared and what operators have commanded. No IO.

| what                   | declared by                 | commanded by (`jobs.control`)                       |
|------------------------|-----------------------------|-----------------------------------------------------|
| weights of the classes | `app.queue(priorities=...)` | `weight/priority/<queue>/<class>`                   |
| weights of tenants     | `app.queue(weights=...)`    | `weight/tenant/<queue>/<tenant>`                    |
| limits of a queue      | `app.queue(limits=...)`     | `limit/queue/<queue>/<by>`                          |
| limits of a tenant     |                             | `limit/tenant/<queue>/<tenant>`, before by="tenant" |
| limits of a type       | `app.job(limits=...)`       | `limit/type/<by>/<type>`                            |
| what is paused         |                             | `pause/queue/...`, `pause/tenant/...`, `pause/type/...` |

A command goes before the declaration of the same scope and `by`. A pause is a bucket that lets nothing start.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog

from logqueue.errors import LogqueueError
from logqueue.jobs.limits import Limit, read_limit
from logqueue_consumers.dispatch.bucket import ONE, PAUSED, Bounds, Bucket
from logqueue_consumers.dispatch.ready_queue import Placed

if TYPE_CHECKING:
    from logqueue.jobs.app import App
    from logqueue.jobs.control import ControlState
    from logqueue.jobs.definition import JobDefinition, Queue
    from logqueue_consumers.job import Job
    from logqueue_consumers.partitions.shard import Shards

log = structlog.get_logger(__name__)

MAX_BUCKETS = 65_536
"""Buckets kept in memory before idle ones are looked for; the others belong to jobs in hand or to spent rates."""
MAX_PLACES = 65_536
_encode = msgspec.json.Encoder(order="deterministic").encode


class Commands:
    """What operators have commanded about limits, weights and pauses."""

    def __init__(self) -> None:
        self.limits: dict[tuple[str, ...], Limit | None] = {}
        """By ("queue", q, by), ("tenant", q, tenant) or ("type", type, by); None lifts what is declared."""
        self.weights: dict[tuple[str, ...], float] = {}
        self.paused: set[tuple[str, ...]] = set()

    def __bool__(self) -> bool:
        return bool(self.limits or self.weights or self.paused)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Commands) and (self.limits, self.weights, self.paused) == (
            other.limits,
            other.weights,
            other.paused,
        )

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def of(cls, state: ControlState) -> Commands:
        """The commands that stand. One that cannot be read holds nothing up: it is told in the log and passed over."""
        found = cls()
        for key, value in state.standing.items():
            try:
                found._take(key, value)
            except (LogqueueError, TypeError, ValueError, KeyError) as error:
                log.warning("command not understood", key=key, error=str(error))
        return found

    def _take(self, key: str, value: Mapping[str, Any]) -> None:
        match key.split("/", 3):
            case ["pause", "queue", queue]:
                self.paused.add(("queue", queue))
            case ["pause", "tenant", queue, tenant]:
                self.paused.add(("tenant", queue, tenant))
            case ["pause", "type", *rest]:
                self.paused.add(("type", "/".join(rest)))
            case ["limit", "queue", queue, by]:
                self.limits["queue", queue, by] = _limit(value, by)
            case ["limit", "tenant", queue, tenant]:
                self.limits["tenant", queue, tenant] = _limit(value, "tenant")
            case ["limit", "type", by, type_]:
                self.limits["type", type_, by] = _limit(value, by)
            case ["weight", scope, queue, name] if scope in ("tenant", "priority"):
                self.weights[scope, queue, name] = read_weight(value["weight"])


def read_weight(value: object) -> float:
    """A weight itself, or ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.01 <= value <= 1000:
        raise ValueError(f"weight {value!r} is not a number from 0.01 to 1000")
    return float(value)


def _limit(value: Mapping[str, Any], by: str) -> Limit | None:
    given = {name: value[name] for name in ("running", "rate", "burst") if value.get(name) is not None}
    return read_limit({"by": by, **given}) if given else None


class _Kind(NamedTuple):
    """What the jobs of one queue, class and type have in common."""

    placed: Placed | None
    """Where those of tenants belong that nobody speaks of; None where each tenant has a bucket of its own."""
    named: Collection[str]
    """Tenants that somebody speaks of."""
    by_argument: tuple[tuple[str, Hashable, Limit], ...]
    """Limits by the value of an argument: its name, and the scope of the buckets."""


class Placing:
    """Knows an app's queues, what of them this worker owns, and the partition counts of their job topics."""

    def __init__(
        self, queues: Mapping[str, Queue], shards: Shards, partitions: Mapping[str, int], now_s: float
    ) -> None:
        self._queues = queues
        self._shards = shards
        self._shards_seen = shards.version
        self._partitions = partitions
        self._since_s = now_s
        self._refresh_at = MAX_BUCKETS
        self.commands = Commands()
        self._buckets: dict[Hashable, Bucket] = {}
        self._kinds: dict[tuple[str, str, str], _Kind] = {}
        self._places: dict[tuple[str, str, str, str], Placed] = {}
        """The places of tenants that have their own, by queue, class, type and tenant."""
        self.free: dict[tuple[str, str], Placed] = {}
        """Where every job of a queue and a type belongs that has neither class nor bounds, whatever `is_stale`."""

    @property
    def is_stale(self) -> bool:
        """Whether the worker owns other shards than before, or idle buckets should be forgotten: `refresh`."""
        return self._shards.version != self._shards_seen or len(self._buckets) >= self._refresh_at

    def refresh(self, now_s: float) -> None:
        """Every job is placed again after this (nothing runs or waits in a bucket); forgets idle buckets."""
        if self._shards.version != self._shards_seen:
            self._shards_seen, self._since_s = self._shards.version, now_s
        self._kinds.clear()
        self._places.clear()
        self.free.clear()
        self._buckets = {name: bucket for name, bucket in self._buckets.items() if not bucket.is_idle(now_s)}
        self._refresh_at = max(MAX_BUCKETS, 2 * len(self._buckets))

    def has_bounds(self, app: App, queues: Iterable[str]) -> bool:
        """Whether anything may keep a job of these queues from starting."""
        names = set(queues)
        return bool(
            self.commands.limits
            or self.commands.paused
            or any(self._queues[name].limits or self._queues[name].priorities for name in names)
            or any(definition.limits for definition in app.jobs.values() if definition.queue in names)
        )

    def place(self, job: Job, now_s: float) -> Placed:
        """Where the job belongs."""
        definition, queue = job.definition, job.partition.queue
        assert definition is not None, "only a job with a handler is ready"
        key = (queue, self._priority(job), definition.type)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = self._kind(key, job, now_s)
        placed = kind.placed
        if placed is not None and not (placed.priority or placed.buckets or kind.named or kind.by_argument):
            self.free[queue, definition.type] = placed
        if placed is None or job.tenant in kind.named:
            placed = self._place_apart(key, job, now_s)
        if not kind.by_argument:
            return placed
        more = [self._argument_bucket(job, *limit, now_s) for limit in kind.by_argument]
        return placed.bounded(bucket for bucket in more if bucket is not None)

    def _kind(self, key: tuple[str, str, str], job: Job, now_s: float) -> _Kind:
        queue, definition = key[0], job.definition
        assert definition is not None, "only a job with a handler is ready"
        declared = self._queues.get(queue)
        named = set(declared.weights if declared is not None else ())
        commands = self.commands
        for scope in (*commands.limits, *commands.weights, *commands.paused):
            if scope[:2] == ("tenant", queue):
                named.add(scope[2])
        is_by_tenant = (
            "tenant" in self._queue_limits(queue)
            or "tenant" in self._type_limits(definition)
            or self._has_lanes_by_class(queue)
        )
        placed = None if is_by_tenant else self._place(key, None, definition, opened_s=0.0, now_s=now_s)
        return _Kind(placed, named, self._argument_limits(queue, definition))

    def _place_apart(self, key: tuple[str, str, str], job: Job, now_s: float) -> Placed:
        """The place of a tenant that has its own."""
        tenant, definition = job.tenant, job.definition
        assert definition is not None, "only a job with a handler is ready"
        own = (*key, tenant)
        placed = self._places.get(own)
        if placed is None:
            if len(self._places) >= MAX_PLACES:
                self._places.clear()
            opened_s = job.partition.shard.opened_s
            placed = self._places[own] = self._place(key, tenant, definition, opened_s=opened_s, now_s=now_s)
        return placed

    def is_paused(self, queue: str) -> bool:
        """Whether nothing of the queue starts."""
        return ("queue", queue) in self.commands.paused

    def _share_of(self, queue: str) -> float:
        """The share of a queue's partitions that this worker owns."""
        count = self._partitions.get(queue, 1)
        return min(1.0, max(1, self._shards.count(queue)) / count)

    def _priority(self, job: Job) -> str:
        queue = self._queues.get(job.partition.queue)
        if queue is None or not queue.priorities:
            return ""
        for name in (job.headers.priority, job.partition.priority):
            if name is not None and name in queue.priorities:
                return name
        return queue.default_priority

    def _place(
        self,
        key: tuple[str, str, str],
        tenant: str | None,
        definition: JobDefinition[..., Any],
        *,
        opened_s: float,
        now_s: float,
    ) -> Placed:
        """The place of a tenant, or (None) of all that nobody speaks of."""
        queue, priority, _ = key
        bounds = dict(self._bounds(queue, tenant, definition))
        return Placed(
            queue,
            priority,
            self._class_weight(queue, priority),
            self._tenant_weight(queue, tenant),
            tuple(
                self._bucket(name, found, opened_s if name[0] in _OF_TENANTS else self._since_s, now_s)
                for name, found in bounds.items()
            ),
        )

    def _class_weight(self, queue: str, priority: str) -> float:
        """Weights count within their queue; queues share evenly."""
        declared = self._queues[queue].priorities if queue in self._queues else None
        if not declared:
            return 1.0
        weights = self.commands.weights
        total = sum(weights.get(("priority", queue, name), weight) for name, weight in declared.items())
        return weights.get(("priority", queue, priority), declared[priority]) / total

    def _tenant_weight(self, queue: str, tenant: str | None) -> float:
        if tenant is None:
            return 1.0
        declared = self._queues[queue].weights if queue in self._queues else {}
        return self.commands.weights.get(("tenant", queue, tenant), declared.get(tenant, 1.0))

    def _bounds(
        self, queue: str, tenant: str | None, definition: JobDefinition[..., Any]
    ) -> Iterable[tuple[tuple[str | None, ...], Bounds]]:
        yield from self._stops(queue, tenant, definition.type)
        share = self._share_of(queue)
        declared = self._queues.get(queue)
        of_tenant = share if declared is not None and declared.spread > 1 else 1.0
        yield from self._tenant_bounds(queue, tenant, of_tenant)
        for by, limit in self._queue_limits(queue).items():
            if by == "queue":
                yield ("queue", queue), Bounds.of(limit, share=share)
            elif by == "type":
                yield ("type", queue, definition.type), Bounds.of(limit, share=share)
        for by, limit in self._type_limits(definition).items():
            if by == "tenant":
                yield ("job-tenant", definition.type, tenant), Bounds.of(limit, share=of_tenant)
            elif by in ("type", "queue"):
                yield ("job", definition.type), Bounds.of(limit, share=share)

    def _stops(self, queue: str, tenant: str | None, type_: str) -> Iterable[tuple[tuple[str | None, ...], Bounds]]:
        for scope in (("queue", queue), ("tenant", queue, tenant), ("type", type_)):
            if scope in self.commands.paused:
                yield ("pause", *scope), PAUSED
        if self._has_lanes_by_class(queue):
            yield ("order", queue, tenant), ONE

    def _has_lanes_by_class(self, queue: str) -> bool:
        """Whether each class of a tenant has a lane of its own, so that a bucket keeps its jobs one at a time."""
        declared = self._queues.get(queue)
        return declared is not None and bool(declared.priorities) and declared.order == "tenant"

    def _tenant_bounds(
        self, queue: str, tenant: str | None, share: float
    ) -> Iterable[tuple[tuple[str | None, ...], Bounds]]:
        """A command for this one tenant goes before the limit of all tenants."""
        if tenant is None:
            return
        key = ("tenant", queue, tenant)
        commanded = self.commands.limits
        limit = commanded[key] if key in commanded else self._queue_limits(queue).get("tenant")
        if limit is not None:
            yield key, Bounds.of(limit, share=share)

    def _queue_limits(self, queue: str) -> dict[str, Limit]:
        declared = self._queues[queue].limits if queue in self._queues else ()
        return self._effective({limit.by: limit for limit in declared}, ("queue", queue))

    def _type_limits(self, definition: JobDefinition[..., Any]) -> dict[str, Limit]:
        return self._effective({limit.by: limit for limit in definition.limits}, ("type", definition.type))

    def _effective(self, limits: dict[str, Limit], scope: tuple[str, str]) -> dict[str, Limit]:
        for (*at, by), limit in self.commands.limits.items():
            if tuple(at) != scope:
                continue
            if limit is None:
                limits.pop(by, None)
            else:
                limits[by] = limit
        return limits

    def _argument_limits(
        self, queue: str, definition: JobDefinition[..., Any]
    ) -> tuple[tuple[str, Hashable, Limit], ...]:
        by_queue = ((limit, ("argument", queue)) for limit in self._queue_limits(queue).values())
        by_type = ((limit, ("job-argument", definition.type)) for limit in self._type_limits(definition).values())
        return tuple(
            (limit.argument, (*scope, limit.argument), limit)
            for limit, scope in (*by_queue, *by_type)
            if limit.argument is not None
        )

    def _argument_bucket(self, job: Job, argument: str, scope: Hashable, limit: Limit, now_s: float) -> Bucket | None:
        value = getattr(job.arguments, argument, _MISSING)
        if value is _MISSING:
            return None
        name = (scope, _encode(value))
        bounds = Bounds.of(limit, share=self._share_of(job.partition.queue))
        return self._bucket(name, bounds, self._since_s, now_s)

    def _bucket(self, name: Hashable, bounds: Bounds, since_s: float, now_s: float) -> Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket(bounds, since_s)
        elif bucket.bounds != bounds:
            bucket.change(bounds, now_s)
        return bucket


_MISSING = object()
_OF_TENANTS = frozenset({"tenant", "job-tenant"})
"""Buckets whose past is known since the tenant's shard was opened; of others, since partitions moved last."""
