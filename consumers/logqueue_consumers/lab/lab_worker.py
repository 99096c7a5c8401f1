"""One worker of a lab: the real one, with its keepers, inside an enclosure. Shell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import structlog

from logqueue.errors import LogqueueError
from logqueue_consumers.keeper.keepers import Keepers, keepers_group
from logqueue_consumers.lab.enclosure import Enclosure
from logqueue_consumers.worker import Worker

if TYPE_CHECKING:
    from aiokafka import TopicPartition

    from logqueue.jobs.app import App
    from logqueue_consumers.engine import JobEngine
    from logqueue_consumers.job import Job
    from logqueue_consumers.lab.virtual_clock import VirtualClock
    from logqueue_consumers.limits import WorkerLimits
    from logqueue_consumers.membership.group_member import GroupMember

log = structlog.get_logger(__name__)

END_TIMEOUT_S = 10.0
READY_TIMEOUT_S = 30.0
"""How long a worker may take to have its partitions."""


class LabWorker:
    """A worker that was started by `JobLab.start_worker`."""

    def __init__(
        self,
        app: App,
        clock: VirtualClock,
        *,
        number: int,
        limits: WorkerLimits,
        on_start: Callable[[Job], None],
    ) -> None:
        self.number = number
        self.concurrency = limits.concurrency
        self.is_killed = False
        self._group = app.group
        self._settings = app.settings
        self._on_start = on_start
        self._enclosure = Enclosure()
        self._stopping, self._hurry, self._ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.keepers: Keepers | None = None
        """Those of its process; None while it starts."""
        self._worker = Worker(
            app,
            settings=app.settings,
            limits=limits,
            on_ready=lambda _: self._ready.set(),
            clock=clock,
            random=Random(number),
            keeper_host=self._host,
        )

    def __repr__(self) -> str:
        return f"<worker {self.number}{'' if self.is_running else ', ended'}>"

    @property
    def is_running(self) -> bool:
        return self._task is not None and not self._task.done() and self._enclosure.is_alive

    @property
    def member(self) -> GroupMember | None:
        """Its place in the group of the app."""
        return self._worker.member

    @property
    def engine(self) -> JobEngine | None:
        """What runs its jobs; None while it starts."""
        return self._worker.bench.engine

    @property
    def control_position(self) -> int:
        """How far it has read the operators' commands."""
        control = self._worker.bench.control
        return control.position if control is not None else 0

    @property
    def memberships(self) -> dict[str, str]:
        """What each group calls it."""
        found = {
            self._group: self.member.member_id if self.member is not None else None,
            keepers_group(self._settings): self.keepers.member_id if self.keepers is not None else None,
        }
        return {group: member_id for group, member_id in found.items() if member_id is not None}

    async def start(self) -> None:
        """Return when it has its partitions for the first time. Raises what keeps it from working."""
        self._task = self._enclosure.start(self._worker.run(self._stopping, self._hurry))
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait((ready, self._task), timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._task.done():
            self._task.result()
        if not self._ready.is_set():
            raise LogqueueError(f"the worker got no partitions within {READY_TIMEOUT_S:g} s")
        assert self.engine is not None, "ready"
        self.engine.runners.on_start = self._on_start

    def raise_if_failed(self) -> None:
        """What ended the worker though nobody asked for it."""
        if self._task is not None and self._task.done() and self._enclosure.is_alive and not self._stopping.is_set():
            self._task.result()
            raise LogqueueError(f"{self!r} ended by itself")

    async def stop(self, *, hurry: bool = False) -> None:
        """End it as SIGTERM does (`hurry`: as a second one does)."""
        if hurry:
            self._hurry.set()
        self._stopping.set()
        if self._task is not None and self._enclosure.is_alive:
            await self._task

    async def end(self) -> None:
        """End it for good, as quickly as it can with a farewell."""
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await self.stop(hurry=True)
        except TimeoutError:
            log.warning("a worker of the lab does not end: it is killed", worker=self.number)
        finally:
            await self.kill()

    async def cut_after(self, writes: int, *, timeout_s: float) -> None:
        """Let it write so often to its connections, then no more: the moment in which `kill` finds it.

        Returns when that moment has come; one that has less to say is killed when the time is over.
        """
        self._enclosure.cut_after(writes)
        try:
            async with asyncio.timeout(timeout_s):
                await self._enclosure.is_cut.wait()
        except TimeoutError:
            return

    async def kill(self) -> None:
        """End it as SIGKILL does."""
        await self._enclosure.kill()

    async def position(self, tp: TopicPartition) -> int | None:
        """Where it is in a partition of the app's or the keepers' topics; None where that is not its own."""
        if self.member is not None and tp in self.member.partitions:
            return await self.member.position(tp)
        if self.keepers is not None and tp in self.keepers.owned:
            return await self.keepers.position(tp)
        return None

    def _host(self, make: Callable[[], Keepers]) -> _KeeperTask:
        self.keepers = make()
        return _KeeperTask(self.keepers)


class _KeeperTask:
    """Keepers in the worker's own loop, where the clock's moves reach them."""

    def __init__(self, keepers: Keepers) -> None:
        self._keepers = keepers
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keepers.run())

    def wake(self) -> None:
        self._keepers.wake()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
