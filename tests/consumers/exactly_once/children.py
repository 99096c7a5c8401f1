"""Worker processes that tests freeze, kill and stop, and what the log must hold in the end."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import msgspec
from logqueue_schemas.job_status import TERMINAL

from logqueue.jobs.job_ids import JobId
from tests.consumers.conftest import Log, until

CHILD = Path(__file__).with_name("frozen_child.py")


class Child:
    """One worker process."""

    def __init__(self, log: Log, side: Path, queue: str = "first", *more: str) -> None:
        self.output = side.with_name(f"{side.name}.{len(list(side.parent.iterdir()))}.out")
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(CHILD), log.settings.bootstrap, log.name, str(side), queue, *more],
                stdout=out,
                stderr=out,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        return self.output.read_text()

    async def ready(self) -> None:
        await wait_for(lambda: "ready\n" in self.text())

    async def frozen(self) -> None:
        """Wait until the process has stopped itself."""
        stat = Path(f"/proc/{self.pid}/stat")
        await wait_for(lambda: stat.read_text().rsplit(")", 1)[1].split()[0] == "T")

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def stopped(self) -> None:
        """Stop it in good order."""
        self.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(self.process.wait, 40) == 0, self.text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


async def wait_for(holds: Callable[[], bool], *, patience_s: float = 40.0) -> None:
    async def look() -> bool:
        return holds()

    await until(look, bool, patience_s=patience_s)


def runs(side: Path) -> list[tuple[int, int]]:
    """Job number and process of each run."""
    if not side.exists():
        return []
    return [(int(n), int(pid)) for n, pid in (line.split() for line in side.read_text().splitlines())]


async def offsets_of(log: Log, topic: str) -> dict[int, int]:
    """The committed offset of each partition of a topic."""
    return {tp.partition: offset for tp, (offset, _) in (await log.committed(log.name)).items() if tp.topic == topic}


async def check_all_once(log: Log, sent: dict[JobId, tuple[str, int]]) -> None:
    """Each job has one terminal status, each has one follow-up job, and a tenant's jobs ended in order."""
    statuses = [status for status in await log.statuses() if status.state in TERMINAL and status.id in sent]
    assert Counter(status.id for status in statuses) == Counter(sent.keys())
    assert all(status.attempt == 1 for status in statuses)
    ended: dict[str, list[int]] = defaultdict(list)
    for status in statuses:
        tenant, n = sent[status.id]
        ended[tenant].append(n)
    assert all(order == sorted(order) for order in ended.values()), "a tenant's jobs end in order"
    followed = [msgspec.json.decode(record.value)["n"] for record in await log.read(log.settings.topics.jobs("next"))]
    assert Counter(followed) == Counter(n for _, n in sent.values())
