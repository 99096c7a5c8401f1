"""`logqueue worker --processes` and its health checks, as processes on a log."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from logqueue_consumers.heartbeats.beat import Heartbeat
from logqueue_consumers.heartbeats.tail import RosterTail

from logqueue.clock import SystemClock
from tests.consumers.conftest import Log, until
from tests.engines.apache import free_ports
from tests.workers.group_app import app
from tests.workers.test_heartbeats import get

APP = Path(__file__).with_name("group_app.py")


@asynccontextmanager
async def command(log: Log, output: Path, *options: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"GROUP_APP_NAME": log.name, "LOGQUEUE_TOPIC_PREFIX": log.settings.topic_prefix}
    line = [sys.executable, "-m", "logqueue_api.cli.main", "worker", str(APP), "--bootstrap", log.settings.bootstrap]
    with output.open("wb") as out:
        process = subprocess.Popen([*line, *options], stdout=out, stderr=out, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


@asynccontextmanager
async def roster(log: Log) -> AsyncIterator[RosterTail]:
    tail = RosterTail(log.settings)
    following = asyncio.create_task(tail.run())
    try:
        yield tail
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def test_several_processes_share_the_work_and_one_that_dies_comes_back(log: Log, tmp_path: Path) -> None:
    async def main() -> None:
        output, (port,) = tmp_path / "out", free_ports(1)
        app.configure(log.settings)

        async def living() -> list[Heartbeat]:
            return list(tail.roster.living(SystemClock().time_ms()))

        async with (
            roster(log) as tail,
            command(log, output, "--processes", "2", "--health-port", str(port), "--drain-timeout", "5") as process,
        ):

            async def told() -> str:
                assert process.poll() is None, output.read_text()
                return output.read_text()

            await until(told, lambda text: "logqueue worker ready: 2 processes" in text, patience_s=40)
            both = await until(living, lambda found: sum(len(b.partitions) > 0 for b in found) == 2)
            spread = sorted(number for b in both for number in b.partitions[log.settings.topics.jobs("grouped")])
            assert spread == [0, 1, 2, 3]
            assert (await get(port))[0] == 200
            os.kill(both[0].pid, signal.SIGKILL)
            known = {b.pid for b in both}
            await until(living, lambda found: any(b.pid not in known and b.partitions for b in found), patience_s=40)
            assert "ended (killed by SIGKILL)" in output.read_text()
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 30) == 0, output.read_text()
            others = {b.pid for b in await living()} - {both[0].pid}
            await until(living, lambda found: not {b.pid for b in found} & others)

    asyncio.run(main())


def test_a_second_signal_hands_back_what_runs_at_once(log: Log, tmp_path: Path) -> None:
    async def main() -> None:
        output = tmp_path / "out"
        app.configure(log.settings)
        async with roster(log) as tail, command(log, output, "--drain-timeout", "60") as process:
            async with app:
                await app.jobs["pid"].send(seconds=600.0)

            async def running() -> int:
                return sum(beat.running for beat in tail.roster.workers(SystemClock().time_ms()))

            await until(running, lambda count: count == 1, patience_s=40)
            process.send_signal(signal.SIGTERM)

            async def states() -> set[str]:
                return {beat.state for beat in tail.roster.workers(SystemClock().time_ms())}

            await until(states, lambda found: found == {"draining"})
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 30) == 0, output.read_text()
            assert "1 interrupted" in output.read_text()
        committed = await log.committed(log.name)
        topic = log.settings.topics.jobs("grouped")
        assert sum(offset for tp, (offset, _) in committed.items() if tp.topic == topic) == 0, "the job is not done"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--processes", "0"], "is not a whole number of at least 1"),
        (["--group", "g"], "unrecognized arguments: --group g"),
        (["--health-port", "x"], "is not a port"),
        (
            ["--processes", "2", "-q", "nosuch"],
            "logqueue: App 'group-app' has no queue 'nosuch'; its queues are: grouped",
        ),
    ],
)
def test_options_that_cannot_be_are_told(options: list[str], told: str) -> None:
    line = [sys.executable, "-m", "logqueue_api.cli.main", "worker", str(APP), *options]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert told in done.stderr
    assert "worker-1" not in done.stdout + done.stderr, "told before anything is started"
