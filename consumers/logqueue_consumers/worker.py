"""A worker process: connects an app's handlers with the log, from start to the last commit. Shell.

    await run_worker(app)          # until SIGTERM or Ctrl-C

Order of a start: topics, schema, producer, definitions of the jobs, then membership in the group. Order of a stop: no
more records, running jobs drain, outcomes, commit, leave the group, producer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicRole, TopicSpec
from logqueue_consumers.control.definitions import definition_records
from logqueue_consumers.dispatch.steering import Steering
from logqueue_consumers.flows.events import FlowEvents
from logqueue_consumers.heartbeats.health import HealthServer, keep_file
from logqueue_consumers.heartbeats.pulse import Pulse
from logqueue_consumers.heartbeats.watch import LivenessWatch
from logqueue_consumers.heartbeats.writer import HeartbeatWriter
from logqueue_consumers.keeper.attendance import attend_keepers
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.membership.group_member import GroupMember
from logqueue_consumers.membership.sticky_assignor import StickyAssignor, busy_partitions
from logqueue_consumers.metrics import WorkerMetrics, measure
from logqueue_consumers.outcome import LiveRules
from logqueue_consumers.processes.app_path import check_isolation
from logqueue_consumers.uniqueness.service import know_again
from logqueue_consumers.wills.heirs import Heirs
from logqueue_consumers.wills.last_will import LastWill
from logqueue_consumers.workbench import Workbench, bounded, stop_on_signals, unless
from logqueue_consumers.writing.outgoing import Outgoing

if TYPE_CHECKING:
    from random import Random

    from logqueue.clock import Clock
    from logqueue.jobs.app import App
    from logqueue_consumers.keeper.attendance import KeeperHost
    from logqueue_consumers.keeper.keepers import Keepers

log = structlog.get_logger(__name__)

SIGN_OFF_S = 2.0
"""How long a stopped worker tries to take its name off the list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the worker answers health checks: on a port (0: any free one), in a file, or not at all."""

    host: str = "0.0.0.0"  # noqa: S104 - probes come from outside the container
    port: int | None = None
    file: Path | None = None


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
    health: Health | None = None,
) -> WorkerMetrics:
    """Run the app's jobs until `stop` is set, by default by SIGTERM or SIGINT; returns what was done.

    `queues` are those to work on (default: all of the app). `drain_timeout` is in seconds: jobs still running then go
    back with their attempt unchanged; `hurry` (a second signal) ends the wait at once. `instance_id` makes the worker
    a static member of the group: restarted under the same id it takes over its partitions at once. `on_ready` is
    called when the worker has its partitions for the first time. `health` says how it answers health checks.

    Raises InvalidSetting, InvalidDefinition, BrokerUnreachable, TopicsNotCreated, RegistrationFailed.
    """
    worker = Worker(
        app,
        settings=settings if settings is not None else app.settings,
        queues=queues,
        limits=bounded(limits, concurrency=concurrency, drain_timeout=drain_timeout),
        instance_id=instance_id,
        on_ready=on_ready,
        health=health,
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
        health: Health | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
        keeper_host: Callable[[Callable[[], Keepers]], KeeperHost] | None = None,
    ) -> None:
        """`clock`, `random` and what the keepers run in (default: a thread) are for tests.

        With a `keeper_host` this worker is no process that can be killed, and leaves no will.
        """
        check_isolation(app)
        self._rules = LiveRules(settings.topics, app.group)
        self._bench = Workbench(
            app,
            group=app.group,
            rules=self._rules,
            settings=settings,
            limits=limits or WorkerLimits(),
            processing=app.processing if app.processing is not None else settings.processing,
            instance_id=instance_id,
            clock=clock,
            random=random,
        )
        self._keeper_host = keeper_host
        self._app = app
        self._settings = settings
        self._queues = app.work_queues(queues)
        self._instance_id = instance_id
        self._on_ready = on_ready
        self._health = health if health is not None else Health()
        self._member: GroupMember | None = None
        self._watch: LivenessWatch | None = None
        self._will: LastWill | None = None
        self._heirs: Heirs | None = None
        self.pulse: Pulse | None = None
        self.health_port: int | None = None
        """Where GET /healthz is answered; None when it was not asked for."""

    @property
    def bench(self) -> Workbench:
        """Its engine and its connections."""
        return self._bench

    @property
    def member(self) -> GroupMember | None:
        """Its place in the group; None before it is prepared."""
        return self._member

    async def run(self, stopping: asyncio.Event, hurry: asyncio.Event) -> None:
        """Work until `stopping`, then drain; `hurry` cuts the draining short."""
        log.info("starting", bootstrap=self._settings.bootstrap, group=self._bench.group, queues=list(self._queues))
        try:
            if await unless(stopping, self._prepare(hurry)):
                assert self._member is not None, "prepared"
                await self._work(self._member, stopping)
        finally:
            await self._bench.stop()
            if self._will is not None:
                self._will.tear_up()

    def metrics(self) -> WorkerMetrics:
        """The worker now (or at its end)."""
        return measure(self._bench, self._member)

    def report(self) -> dict[str, Any]:
        """What health checks see; `problem` says why the worker gets on with nothing though there is work."""
        metrics, watch = self.metrics(), self._watch
        return {
            "worker": metrics.worker,
            "group": metrics.group,
            "problem": watch.problem if watch is not None else None,
            "log_error": watch.log_error if watch is not None else None,
            "partitions": metrics.partitions,
            "running": metrics.running,
            "lag": metrics.lag,
        }

    async def _work(self, member: GroupMember, stopping: asyncio.Event) -> None:
        bench, server = self._bench, HealthServer(self.report)
        self._watch = watch = LivenessWatch(bench, member)
        writer = HeartbeatWriter(
            bench, member, watch, queues=self._queues, instance_id=self._instance_id, stopping=stopping
        )
        bench.companions += [watch.run, writer.run, self._make_pulse(member).run]
        if self._health.file is not None:
            file = self._health.file
            bench.companions.append(lambda: keep_file(file, self.report))
        try:
            if self._health.port is not None:
                self.health_port = await server.start(host=self._health.host, port=self._health.port)
            await bench.work(member, stopping)
            async with asyncio.timeout(SIGN_OFF_S):
                await writer.sign_off()
        except TimeoutError:
            log.warning("the log does not take a farewell: this worker is listed as lost for a while")
        finally:
            await server.stop()
            await member.close()

    def _make_pulse(self, member: GroupMember) -> Pulse:
        bench, limits = self._bench, self._bench.limits
        assert bench.engine is not None, "prepared"
        engine = bench.engine
        self.pulse = Pulse(
            self._settings,
            group=bench.group,
            identity=member.identity,
            running_types=lambda: sorted({str(job.type) for job, _ in engine.running_jobs()}),
            session_timeout_s=limits.session_timeout_ms / 1000,
            blocked_loop_s=limits.blocked_loop_s,
        )
        return self.pulse

    async def _prepare(self, hurry: asyncio.Event) -> None:
        app, bench, names, group = self._app, self._bench, self._settings.topics, self._app.group
        if self._keeper_host is None:
            self._draw_up_will()
        specs: list[TopicSpec] = [
            *names.shared_specs(),
            names.workers_spec(),
            names.schedules_spec(),
            names.flows_spec(),
        ]
        for queue in self._queues:
            count, classes = app.queues[queue].partitions, (None, *app.queues[queue].priority_topics)
            specs.extend(names.jobs_spec(queue, partitions=count, priority=priority) for priority in classes)
            specs.extend(names.group_specs(queue, group, partitions=count))
        engine = await bench.prepare(specs, definition_records(app, names, bench.clock.time_ms()))
        if self._will is not None and bench.transactions is not None:
            self._will.writes_as(bench.transactions.transactional_id)
        if bench.control is not None:
            counts = {queue: bench.partitions.count(names.jobs(queue)) for queue in self._queues}
            Steering(engine, app, bench.control, partitions=counts, limits=bench.limits, clock=bench.clock)
            control, encode_status = bench.control, bench.encode_status
            assert encode_status is not None, "prepared"
            bench.companions.append(
                lambda: attend_keepers(
                    self._settings, control, encode_status, clock=bench.clock, host=self._keeper_host, will=self._will
                )
            )
        know_again(bench, engine, app, self._rules)
        engine.ended_hooks.append(FlowEvents(names.flows, group, bench.partitions.partition_of).ended)
        roles = self._topics()
        self._member = GroupMember(
            engine,
            lambda: bench.make_consumer(
                group_instance_id=self._instance_id,
                partition_assignment_strategy=(
                    StickyAssignor(self._family, lambda: busy_partitions(engine), self._note_member),
                ),
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
            unwritten_since_ms=bench.unwritten_since_ms,
            write=bench.write,
            transactions=bench.transactions,
        )

    def _draw_up_will(self) -> None:
        bench, instance_id = self._bench, self._instance_id
        self._will = LastWill.draw_up(self._settings, group=bench.group, worker=bench.name)
        self._heirs = heirs = Heirs(
            self._will,
            self._settings,
            group=bench.group,
            is_static=instance_id is not None,
            transaction_timeout_ms=bench.limits.transaction_timeout_ms,
            member_id=lambda: self._member.member_id if self._member is not None else None,
            take_off_list=lambda worker: bench.write(
                [Outgoing(self._settings.topics.workers, 0, worker.encode(), None)]
            ),
        )
        bench.companions.append(heirs.run)

    def _note_member(self) -> None:
        if self._heirs is not None:
            self._heirs.note_member()

    def _family(self, topic: str) -> str:
        """The queue of a topic, which may be one that only other workers of the group run."""
        role = self._settings.topics.role(topic)
        return role.queue if role is not None and role.queue is not None else topic

    def _topics(self) -> dict[str, TopicRole]:
        names, group = self._settings.topics, self._app.group
        roles = {}
        for queue in self._queues:
            classes = self._app.queues[queue].priority_topics
            jobs = (names.jobs(queue, priority) for priority in (None, *classes))
            for topic in (*jobs, names.retry(queue, group), names.parked(queue, group)):
                role = names.role(topic)
                assert role is not None, "our own names are recognised"
                roles[topic] = role
        return roles

    def _became_ready(self) -> None:
        on_ready, self._on_ready = self._on_ready, None
        if on_ready is not None:
            on_ready(self)
