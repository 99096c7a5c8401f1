"""Talks to a peer's driver: a process in the peer's environment that puts jobs in and counts what has ended.

One line of JSON each way: `[name, arguments...]` and its answer. The drivers are the modules `drive_*` here.
"""

from __future__ import annotations

import asyncio
import json
import math
import select
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks import stack

ROOT = Path(__file__).resolve().parents[2]
URL = "LOGQUEUE_BENCH_SERVER"
"""The variable with the URL of the peer's server: Redis, RabbitMQ or PostgreSQL."""
RESULTS = "LOGQUEUE_BENCH_RESULTS"
"""The variable with the URL of a Redis database for results alone, for peers that count them there."""
TOGETHER = 1_000
"""Jobs of a bulk call."""
OPEN_REQUESTS = 500
"""Requests that are on their way at a time where a client has no bulk call."""
AMQP = "amqp"
"""What the URL of a RabbitMQ begins with."""
ANSWER_SECONDS = 600
"""For one call, of which putting in all jobs one by one is the longest."""
COUNT_SECONDS = 0.1


class Driver:
    """The driver's process, as seen by the harness."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        """`env` has the packages' place and the servers' URLs; workers need the same."""
        self.env = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **env}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=stack.environment(self.env),
            cwd=ROOT,
        )

    def call(self, name: str, *arguments: object) -> Any:
        """Ask for one thing. Raises RuntimeError if the driver ends instead of answering, or takes too long."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], ANSWER_SECONDS)[0]:
            raise RuntimeError(f"the driver did not answer {name!r} within {ANSWER_SECONDS} s")
        answer = self._process.stdout.readline()
        if not answer:
            stack.wait_or_kill(self._process)
            raise RuntimeError(f"the driver ended with {self._process.returncode} at {name!r}")
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended by itself
            self._process.stdin.close()
        stack.wait_or_kill(self._process)
        self._process.stdout.close()


def serve(commands: Mapping[str, Callable[..., object]]) -> None:
    """The driver's side: answer until the harness closes the pipe."""
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(commands[name](*arguments)), flush=True)


def seldom(count: Callable[[], int], *, clock: Callable[[], float] = time.monotonic) -> Callable[[], int]:
    """`count` for a driver whose server has to read a whole table for it: asked once in COUNT_SECONDS.

    Else it would take processor time from the workers that are timed. An end is seen that much later at most.
    """
    known, at = 0, -math.inf

    def known_count() -> int:
        nonlocal known, at
        if clock() - at >= COUNT_SECONDS:
            known = count()
            at = clock()
        return known

    return known_count


def python_module(*words: str) -> list[str]:
    """A command of this environment: `python -m ...`."""
    return [sys.executable, "-m", *words]


def batches(first: int, jobs: int, size: int = TOGETHER) -> Iterator[range]:
    """The numbers of the jobs, `size` at a time."""
    for start in range(first, first + jobs, size):
        yield range(start, min(start + size, first + jobs))


class AsyncSender:
    """Enqueues on a loop of its own for peers whose client is asynchronous and has no bulk call.

    `send(number, ms)` answers when a job is accepted, with what waits for its result.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, send: Callable[[int, int], Awaitable[Callable[[], Awaitable[object]]]]
    ) -> None:
        self.entered = 0
        self._loop = loop
        self._send = send

    def enqueue(self, first: int, jobs: int, ms: int) -> float:
        """The driver's command: requests are sent together, the seconds until all are accepted."""
        began = time.perf_counter()
        self._loop.run_until_complete(self._enqueue(first, jobs, ms))
        self.entered += jobs
        return time.perf_counter() - began

    async def _enqueue(self, first: int, jobs: int, ms: int) -> None:
        for numbers in batches(first, jobs, OPEN_REQUESTS):
            await asyncio.gather(*(self._send(number, ms) for number in numbers))

    def latency(self, jobs: int, rate: float) -> list[tuple[float, float]]:
        """The driver's command: submit at the rate; milliseconds until each was accepted, and its result was there."""
        return self._loop.run_until_complete(self._latency(jobs, rate))

    async def _latency(self, jobs: int, rate: float) -> list[tuple[float, float]]:
        began = time.perf_counter()
        tasks = []
        for number in range(jobs):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            tasks.append(asyncio.create_task(self._one(number)))
        return list(await asyncio.gather(*tasks))

    async def _one(self, number: int) -> tuple[float, float]:
        began = time.perf_counter()
        result = await self._send(number, 0)
        accepted = time.perf_counter()
        await result()
        return (accepted - began) * 1000, (time.perf_counter() - began) * 1000
