"""A worker process: connects an app's handlers with the log, from start to the last commit. Shell.

    await run_worker(app)          # until SIGTERM or Ctrl-C

Order of a start: topics, schema, producer, definitions of the jobs, then membership in the group. Order of a stop: no
more records, running jobs drain, outcomes, commit, leave the group, producer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from logqueue.jobs.errors import InvalidSetting
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicRole, TopicSpec
from logqueue_consumers.definitions import definition_records
from logqueue_consumers.group_member import GroupMember
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.metrics import WorkerMetrics, measure
from logqueue_consumers.outcome import LiveRules
from logqueue_consumers.sticky_assignor import StickyAssignor
from logqueue_consumers.workbench import Workbench, bounded, stop_on_signals, unless

if TYPE_CHECKING:
    from logqueue.jobs.app import App


async def run_worker(
    app: App,
    *,
    settings: Settings | None = None,
    queues: Iterable[str] | None = None,
    concurrency: int | None = None,
    drain_timeout: float | None = None,
    stop: asyncio.Event | None = None,
    hurry: asyncio.Event | None = None,
    instance_id: str | None = None,
    on_ready: Callable[[Worker], None] | None = None,
    limits: WorkerLimits | None = None,
) -> WorkerMetrics:
    """Run the app's jobs until `stop` is set, by default by SIGTERM or SIGINT; returns what was done.

    `queues` are those to work on (default: all of the app). `drain_timeout` is in seconds: jobs still running then go
    back with their attempt unchanged; `hurry` (a second signal) ends the wait at once. `instance_id` makes the worker
    a static member of the group: restarted under the same id it takes over its partitions at once. `on_ready` is
    called when the worker has its partitions for the first time.

    Raises InvalidSetting, InvalidDefinition, BrokerUnreachable, TopicsNotCreated, RegistrationFailed.
    """
    worker = Worker(
        app,
        settings=settings if settings is not None else app.settings,
        queues=queues,
        limits=bounded(limits, concurrency=concurrency, drain_timeout=drain_timeout),
        instance_id=instance_id,
        on_ready=on_ready,
    )
    with stop_on_signals(stop, hurry) as (stopping, hurrying):
        await worker.run(stopping, hurrying)
    return worker.metrics()


class Worker:
    """One member of an app's consumer group."""

    def __init__(
        self,
        app: App,
        *,
        settings: Settings,
        queues: Iterable[str] | None = None,
        limits: WorkerLimits | None = None,
        instance_id: str | None = None,
        on_ready: Callable[[Worker], None] | None = None,
    ) -> None:
        rules = LiveRules(settings.topics, app.group)
        self._bench = Workbench(app, group=app.group, rules=rules, settings=settings, limits=limits or WorkerLimits())
        self._app = app
        self._settings = settings
        self._queues = _checked_queues(app, queues)
        self._instance_id = instance_id
        self._on_ready = on_ready
        self._member: GroupMember | None = None

    async def run(self, stopping: asyncio.Event, hurry: asyncio.Event) -> None:
        """Work until `stopping`, then drain; `hurry` cuts the draining short."""
        try:
            if await unless(stopping, self._prepare(hurry)):
                assert self._member is not None, "prepared"
                await self._bench.work(self._member, stopping)
        finally:
            await self._bench.stop()

    def metrics(self) -> WorkerMetrics:
        """The worker now (or at its end)."""
        return measure(self._bench, self._member)

    async def _prepare(self, hurry: asyncio.Event) -> None:
        app, bench, names, group = self._app, self._bench, self._settings.topics, self._app.group
        specs: list[TopicSpec] = list(names.shared_specs())
        for queue in self._queues:
            specs.append(names.jobs_spec(queue, partitions=app.queues[queue].partitions))
            specs.extend(names.group_specs(queue, group, partitions=app.queues[queue].partitions))
        engine = await bench.prepare(specs, definition_records(app, names, bench.clock.time_ms()))
        roles = self._topics()
        self._member = GroupMember(
            engine,
            lambda: bench.make_consumer(
                group_instance_id=self._instance_id,
                partition_assignment_strategy=(StickyAssignor(lambda topic: roles[topic].queue or topic),),
                session_timeout_ms=bench.limits.session_timeout_ms,
                heartbeat_interval_ms=bench.limits.heartbeat_interval_ms,
                rebalance_timeout_ms=bench.limits.rebalance_timeout_ms,
            ),
            bench.offsets,
            group=group,
            topics=roles,
            orders={name: app.queues[name].order for name in self._queues},
            limits=bench.limits,
            hurry=hurry,
            on_ready=self._became_ready,
            tail=bench.tail,
            status_ends=bench.status_ends,
        )

    def _topics(self) -> dict[str, TopicRole]:
        names, group = self._settings.topics, self._app.group
        roles = {}
        for queue in self._queues:
            for topic in (names.jobs(queue), names.retry(queue, group), names.parked(queue, group)):
                role = names.role(topic)
                assert role is not None, "our own names are recognised"
                roles[topic] = role
        return roles

    def _became_ready(self) -> None:
        on_ready, self._on_ready = self._on_ready, None
        if on_ready is not None:
            on_ready(self)


def _checked_queues(app: App, queues: Iterable[str] | None) -> list[str]:
    names = list(app.queues) if queues is None else list(dict.fromkeys(queues))
    unknown = [name for name in names if name not in app.queues]
    if unknown:
        known = ", ".join(sorted(app.queues)) or "none"
        raise InvalidSetting(f"App {app.name!r} has no queue {unknown[0]!r}; its queues are: {known}")
    if not names:
        raise InvalidSetting(f"App {app.name!r} declares no job: there is nothing to work on")
    return names
