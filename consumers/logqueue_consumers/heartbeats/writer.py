"""Writes a worker's heartbeats: one record every few seconds, with whatever else is on its way into the log. Shell."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import defaultdict
from typing import TYPE_CHECKING

from logqueue_consumers.heartbeats.beat import DRAINING, RUNNING, Heartbeat, RunningJob, counts_of, encode, versions
from logqueue_consumers.metrics import measure
from logqueue_consumers.writing.outgoing import Outgoing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logqueue_consumers.heartbeats.watch import LivenessWatch
    from logqueue_consumers.membership.group_member import GroupMember
    from logqueue_consumers.workbench import Workbench

OLDEST_JOBS = 5
"""Running jobs that a heartbeat names, those that began first."""


class HeartbeatWriter:
    """Speaks for one worker."""

    def __init__(
        self,
        bench: Workbench,
        member: GroupMember,
        watch: LivenessWatch,
        *,
        queues: Sequence[str],
        instance_id: str | None,
        stopping: asyncio.Event,
    ) -> None:
        self._bench = bench
        self._member = member
        self._watch = watch
        self._queues = tuple(queues)
        self._instance_id = instance_id
        self._stopping = stopping
        self._started_ms = bench.clock.time_ms()

    async def run(self) -> None:
        """Write until cancelled."""
        engine = self._bench.engine
        assert engine is not None, "prepared"
        while True:
            # A log that is away takes nothing: what the outbox does not take now would be stale later.
            engine.outbox.emit([self._record(encode(self.beat()))])
            await asyncio.sleep(self._bench.limits.heartbeat_s)

    async def sign_off(self) -> None:
        """The worker ends in good order: it is not listed any more."""
        await self._bench.write([self._record(None)])

    def beat(self) -> Heartbeat:
        """The worker now."""
        bench, engine = self._bench, self._bench.engine
        assert engine is not None, "prepared"
        now_ms, now_s = bench.clock.time_ms(), bench.clock.monotonic()
        partitions: dict[str, list[int]] = defaultdict(list)
        for tp in sorted(self._member.partitions):
            partitions[tp.topic].append(tp.partition)
        oldest = sorted(engine.running_jobs(), key=lambda pair: pair[0].started_us)[:OLDEST_JOBS]
        return Heartbeat(
            worker=bench.name,
            at=now_ms,
            started_at=self._started_ms,
            app=bench.app.name,
            group=bench.group,
            host=socket.gethostname(),
            pid=os.getpid(),
            state=DRAINING if self._stopping.is_set() else RUNNING,
            interval_s=bench.limits.heartbeat_s,
            instance_id=self._instance_id,
            queues=self._queues,
            concurrency=bench.limits.concurrency,
            held=engine.held_count,
            partitions=dict(partitions),
            versions=versions(),
            oldest=tuple(
                RunningJob(
                    job.id,
                    job.type,
                    job.started_us // 1000,
                    None if left_s == float("inf") else now_ms + int(left_s * 1000),
                )
                for job, left_s in ((job, deadline_s - now_s) for job, deadline_s in oldest)
            ),
            problem=self._watch.problem,
            **counts_of(measure(bench, self._member)),
        )

    def _record(self, value: bytes | None) -> Outgoing:
        topic = self._bench.settings.topics.workers
        return Outgoing(topic, 0, self._bench.name.encode(), value, [], self._bench.clock.time_ms())
