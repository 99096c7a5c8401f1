"""Looks at a worker from outside its own connections: does the log hold work for it, does its group count it in? Shell.

As long as the worker moves nobody is asked. When it has not moved for a while a connection of its own asks the log,
since a consumer whose connection is broken does not know what it misses.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from aiokafka.errors import KafkaError

from logqueue.errors import LogqueueError
from logqueue.jobs.connection import new_admin, new_reader, start_client, stop_client
from logqueue_consumers.heartbeats.liveness import Liveness, Sight

if TYPE_CHECKING:
    from logqueue_consumers.membership.group_member import GroupMember
    from logqueue_consumers.workbench import Workbench

log = structlog.get_logger(__name__)

LOOK_S = 2.0
"""How often a worker is looked at."""
ASK_TIMEOUT_S = 10.0
ASK_AFTER = 0.3
"""Share of the patience after which the log is asked about a worker that does not move."""


class LivenessWatch:
    """Watches one worker."""

    def __init__(self, bench: Workbench, member: GroupMember) -> None:
        self._bench = bench
        self._member = member
        self._liveness = Liveness(patience_s=bench.limits.stuck_after_s, now_s=bench.clock.monotonic())
        self._steps = -1
        self._moved_at_s = bench.clock.monotonic()
        self._asked_at_s = 0.0
        self._last = Sight(steps=0, available=0, within_time=0, is_member=True)

    @property
    def problem(self) -> str | None:
        """Why the worker gets on with nothing though there is work; None when it does."""
        return self._liveness.problem

    @property
    def log_error(self) -> str | None:
        """Why the log cannot be asked, when it was asked last."""
        return self._liveness.log_error

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            before = self.problem
            problem = self._liveness.look(await self.see(), self._bench.clock.monotonic())
            if problem is not None and before is None:
                log.error("worker is stuck", group=self._bench.group, problem=problem)
            elif problem is None and before is not None:
                log.info("worker gets on again", group=self._bench.group)
            await asyncio.sleep(min(LOOK_S, self._bench.limits.stuck_after_s / 4))

    async def see(self) -> Sight:
        """The worker now."""
        engine, clock = self._bench.engine, self._bench.clock
        assert engine is not None, "prepared"
        now_s = clock.monotonic()
        steps = engine.steps
        lost_threads = engine.lost_threads
        within_time = sum(deadline_s > now_s for _, deadline_s in engine.running_jobs())
        if steps != self._steps:
            self._steps, self._moved_at_s = steps, now_s
        patience_s = self._bench.limits.stuck_after_s * ASK_AFTER
        if lost_threads is not None:
            return Sight(steps=steps, available=0, within_time=0, is_member=True, lost_threads=lost_threads)
        if within_time or now_s - self._moved_at_s < patience_s:
            return Sight(steps=steps, available=0, within_time=within_time, is_member=True)
        if now_s - self._asked_at_s >= patience_s:
            self._asked_at_s = now_s
            self._last = await self._ask(steps)
        return Sight(
            steps=steps,
            available=self._last.available,
            within_time=0,
            is_member=self._last.is_member,
            log_error=self._last.log_error,
        )

    async def _ask(self, steps: int) -> Sight:
        """Ask the log, on connections that nothing else uses."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                available = await self._available()
                is_member = await self._is_member()
        except (KafkaError, LogqueueError, OSError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            return Sight(steps=steps, available=0, within_time=0, is_member=True, log_error=reason)
        return Sight(steps=steps, available=available, within_time=0, is_member=is_member)

    async def _available(self) -> int:
        """Records behind the last ones taken, in partitions that have room."""
        engine, settings = self._bench.engine, self._bench.settings
        assert engine is not None, "prepared"
        wanted = [tp for tp, partition in self._member.partitions.items() if engine.records.wants(partition)]
        if not wanted:
            return 0
        positions = {tp: await self._member.position(tp) for tp in wanted}
        reader = await start_client(lambda: new_reader(settings), settings)
        try:
            ends = await reader.end_offsets(wanted)
        finally:
            await stop_client(reader)
        return sum(max(0, ends[tp] - position) for tp, position in positions.items())

    async def _is_member(self) -> bool:
        settings, member_id = self._bench.settings, self._member.member_id
        admin = await start_client(lambda: new_admin(settings), settings)
        try:
            found = (await admin.describe_consumer_groups([self._bench.group]))[0].groups[0]
        finally:
            await stop_client(admin)
        code, members = found[0], found[5]
        if code != 0:
            return True  # the coordinator moves or loads: nothing is known
        return any(member[0] == member_id for member in members)
