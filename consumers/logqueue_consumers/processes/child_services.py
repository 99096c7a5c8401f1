"""The services of a job's context, inside a child process: they are those of the worker, over the line."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from logqueue.jobs.payload import encode_result
from logqueue.jobs.sending import PreparedJob
from logqueue_consumers.control.notes import line_of, progress_of
from logqueue_consumers.processes.line import Line

CANCELLED_KNOWN_S = 0.1
"""How long an answer to "is the job cancelled" is believed: handlers ask in tight loops."""


class ChildServices:
    """What ContextServices promises. Every method may be called from any thread."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._stopped = threading.Event()
        self._asked_at_s = 0.0

    def renew(self) -> None:
        """Another job begins."""
        self._stopped.clear()
        self._asked_at_s = 0.0

    def stop(self) -> None:
        """The job is to end."""
        self._stopped.set()

    @property
    def cancelled(self) -> bool:
        """Whether the job is to end: its time is up, or somebody asked for it."""
        now_s = time.monotonic()
        if not self._stopped.is_set() and now_s - self._asked_at_s >= CANCELLED_KNOWN_S:
            self._asked_at_s = now_s
            if self._line.ask("cancelled"):
                self._stopped.set()
        return self._stopped.is_set()

    def send(self, job: PreparedJob) -> None:
        """Put a follow-up job on the log if this attempt succeeds."""
        self._line.ask("send", job)

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Show how far the job has come. What is wrong with it is told here: the worker waits for nobody."""
        shown = progress_of(done=done, total=total, message=message)
        self._line.tell("progress", shown["done"], shown["total"], shown.get("message"))

    def log(self, line: str) -> None:
        """Add a line to the job's own log."""
        self._line.tell("log", line_of(line))

    def begin_effect(self, name: str) -> str:
        """The key of a call that touches the outside world."""
        return str(self._line.ask("begin_effect", name))

    def record_effect(self, key: str, result: object) -> None:
        """Keep what such a call returned, if it has a JSON form."""
        try:
            value = msgspec.json.decode(encode_result(result))
        except (TypeError, ValueError, RecursionError):
            return
        self._line.tell("record_effect", key, value)

    def replayed_effect(self, key: str) -> Any:
        """What such a call returns in a replay."""
        return self._line.ask("replayed_effect", key)

    async def step(self, name: str, call: Callable[[], Any]) -> Any:
        """The kept result of a step, or that of `call`, made durable. Cancelled, it cancels `call` and waits for it."""
        loop = asyncio.get_running_loop()
        running: list[asyncio.Task[Any]] = []
        is_given_up = False

        async def run_part() -> Any:
            if is_given_up:
                raise asyncio.CancelledError
            running.append(task := asyncio.ensure_future(call()))
            return await task

        def part() -> Any:
            return asyncio.run_coroutine_threadsafe(run_part(), loop).result()

        try:
            return await asyncio.to_thread(self._line.ask, "step", name, part=part)
        except asyncio.CancelledError:
            is_given_up = True
            for task in running:
                task.cancel()
                await asyncio.wait((task,))
            raise

    def step_from_thread(self, name: str, call: Callable[[], Any]) -> Any:
        """The same for a plain handler."""
        return self._line.ask("step", name, part=call)
