"""The workers of one `up`: as many as the load wants, and none that lives without getting on. Shell of `scaling`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from logqueue.clock import Clock
from logqueue_api.up.child import ChildSpec, Notice
from logqueue_api.up.counts import QueueCounts
from logqueue_api.up.scaling import Load, ScaleLimits, Scaler
from logqueue_api.up.supervisor import Supervisor

NAME = "worker-"


class Workforce:
    """Starts workers one by one under their names, retires the last ones first, replaces those that are stuck."""

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        make: Callable[[str], ChildSpec],
        queues: Collection[str],
        limits: ScaleLimits,
        capacity: int,
        clock: Clock,
        on_notice: Callable[[Notice], None],
    ) -> None:
        self._supervisor = supervisor
        self._make = make
        self._queues = frozenset(queues)
        """Those that the workers work on."""
        self._capacity = capacity
        self._clock = clock
        self._on_notice = on_notice
        self._limits = limits
        self._scaler = Scaler(limits, now=clock.monotonic())
        self._retiring: dict[str, asyncio.Task[None]] = {}
        self._replaced: set[int] = set()
        """Processes that were told to end because they are stuck."""

    async def start(self) -> None:
        """Start the least number, and wait until all are ready."""
        names = [f"{NAME}{number}" for number in range(1, self._limits.least + 1)]
        await asyncio.gather(*(self._supervisor.start(self._make(name)) for name in names))

    @property
    def names(self) -> list[str]:
        """The workers that are to run."""
        return [name for name in self._supervisor.children if is_worker(name) and name not in self._retiring]

    def scale(self, queues: Iterable[QueueCounts]) -> None:
        """Take in how much there is to do; queues of the cluster that are not these workers' do not count."""
        if self._limits.least == self._limits.most:
            return
        ours = [queue for queue in queues if queue.queue in self._queues]
        load = Load(
            queued=sum(queue.counts.get("queued", 0) for queue in ours),
            oldest_seconds=max((q.oldest_seconds for q in ours if q.oldest_seconds is not None), default=None),
            running=sum(queue.counts.get("running", 0) for queue in ours),
            ended=sum(queue.ended for queue in ours),
            capacity=self._capacity,
        )
        before = self._scaler.wanted
        wanted = self._scaler.decide(load, self._clock.monotonic())
        if wanted != before:
            why = f"{load.queued} jobs wait" if wanted > before else "there is less to do"
            self._on_notice(Notice("up", f"{wanted} workers instead of {before}: {why}"))
        self._match(wanted)

    def replace_stuck(self, workers: Mapping[str, Any] | None) -> None:
        """Take in what workers say of themselves: one that lives and gets on with nothing is started anew.

        Those of other machines are told too, and in containers they have the same process ids.
        """
        children = {child.pid: child for name in self.names if (child := self._supervisor.children[name]).pid}
        here = socket.gethostname()
        for item in (workers or {}).get("items", ()):
            if item.get("host") != here:
                continue
            pid, problem = item.get("pid"), item.get("problem")
            if item.get("state") == "stuck" and pid in children and pid not in self._replaced:
                self._replaced.add(pid)
                self._on_notice(Notice(children[pid].name, f"is stuck ({problem}); starting it anew", is_problem=True))
                self._supervisor.restart(children[pid].name)

    def _match(self, wanted: int) -> None:
        """Start what is missing, retire what is too much; a worker that still drains keeps its name for so long."""
        names = self.names
        for number in range(1, wanted + 1):
            name = f"{NAME}{number}"
            if len(names) < wanted and name not in names and name not in self._retiring:
                self._supervisor.launch(self._make(name))
                names.append(name)
        for name in sorted(names, key=_number)[wanted:]:
            self._retiring[name] = asyncio.create_task(self._retire(name), name=f"retire {name}")

    async def _retire(self, name: str) -> None:
        try:
            await self._supervisor.retire(name)
        finally:
            del self._retiring[name]


def is_worker(name: str) -> bool:
    """Whether a child of this name is a worker."""
    return name.startswith(NAME)


def _number(name: str) -> int:
    return int(name.removeprefix(NAME))
