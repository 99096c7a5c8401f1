"""The broker is killed under a working worker: it reconnects by itself and every job ends, none twice without need."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from logqueue_schemas.job_status import TERMINAL

from logqueue import App
from logqueue.jobs.settings import Settings
from tests.consumers.conftest import PROCESSING, Log, until, working
from tests.engines.apache import free_ports

JOBS = 3_000


class KillableBroker:
    """The embedded broker as a process on a port that stays the same."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.folder = folder
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "logqueue.broker",
            "--data-dir",
            str(self.folder),
            "--kafka-port",
            str(self.port),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
        return process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def restart(self) -> None:
        self.process = self.start()


@pytest.mark.slow
def test_a_worker_outlives_its_broker_and_loses_nothing(tmp_path: Path) -> None:
    broker = KillableBroker(tmp_path / "data")

    async def main() -> None:
        settings = Settings(bootstrap=f"127.0.0.1:{broker.port}", topic_prefix="death.", processing=PROCESSING)
        log = Log(settings, "death")
        app = App("death", settings=settings)
        app.queue("q", order="none", partitions=4)
        runs: Counter[int] = Counter()

        @app.job("work", queue="q")
        async def work(*, n: int) -> int:
            runs[n] += 1
            await asyncio.sleep(0.02)
            return n

        async with working(app, concurrency=50):
            await app.send_many(work.prepare(tenant=f"t{n}", n=n) for n in range(JOBS))
            for share in (0.2, 0.5):
                async with asyncio.timeout(30):
                    while len(runs) < JOBS * share:
                        await asyncio.sleep(0.01)
                await asyncio.to_thread(broker.kill)
                await asyncio.sleep(0.5)  # an outage, not a synchronisation
                await asyncio.to_thread(broker.restart)

            async def ended() -> int:
                return len({status.id for status in await log.statuses() if status.state in TERMINAL})

            await until(ended, lambda count: count == JOBS, patience_s=60)
            await until(lambda: log.done("death", "q"), lambda done: done == JOBS)
        assert sorted(runs) == list(range(JOBS))
        assert max(runs.values()) == 1, "the worker lived: what it ran and finished it does not run again"

    try:
        asyncio.run(main())
    finally:
        broker.kill()
