"""Replays that were asked for over HTTP: each runs as `logqueue replay` in a process of its own. In memory.

The API holds no user code; what is replayed is the app that it was started for (`--app`). A replay that ends with its
API goes on where it was when it is asked for again: its group has committed how far it came.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog
from logqueue_consumers.output_lines import output_lines

from logqueue.clock import Clock
from logqueue_api.rest.problems import Problem
from logqueue_api.rest.wire import read_value, time_text

MAX_KEPT: Final = 50
MAX_RUNNING: Final = 2
MAX_SUMMARY_BYTES: Final = 1024 * 1024
STOP_SECONDS: Final = 10.0
LAST_LINES: Final = 5
COMMAND: Final = (sys.executable, "-m", "logqueue_api.cli.main", "replay")

_log = structlog.get_logger("logqueue.api")


@dataclass(slots=True, eq=False)
class ReplayRun:
    """One replay. `state`: running, done (whatever its jobs came to), stopped, failed."""

    group: str
    topic: str
    by: str
    started_ms: int
    state: str = "running"
    done: int = 0
    total: int | None = None
    summary: dict[str, Any] | None = None
    detail: str | None = None
    finished_ms: int | None = None
    process: asyncio.subprocess.Process | None = None
    last_words: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))

    def document(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "id": self.group,
            "topic": self.topic,
            "group": self.group,
            "state": self.state,
            "by": self.by,
            "done": self.done,
            "total": self.total,
            "summary": self.summary,
            "detail": self.detail,
            "started_at": time_text(self.started_ms * 1000),
            "finished_at": None if self.finished_ms is None else time_text(self.finished_ms * 1000),
        }


class ReplayRuns:
    """The replays of one API process, the newest last. `command` is what runs one."""

    def __init__(self, clock: Clock, *, environment: dict[str, str], command: Sequence[str] = COMMAND) -> None:
        self._clock = clock
        self._environment = environment
        self._command = command
        self.api_url = ""
        """Where this API answers: queries of replays are asked there."""
        self._runs: OrderedDict[str, ReplayRun] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def all(self) -> list[ReplayRun]:
        """The newest first."""
        return list(reversed(self._runs.values()))

    def get(self, group: str) -> ReplayRun | None:
        """The last replay in this group."""
        return self._runs.get(group)

    async def start(
        self,
        words: Sequence[str],
        *,
        group: str,
        topic: str,
        by: str,
        note: Callable[[ReplayRun], Awaitable[None]],
    ) -> ReplayRun:
        """Run `logqueue replay` with these words, once `note` has put it on record: what that raises, nothing has run.

        Problem: 409 while one of this group runs, 503 while others do.
        """
        running = [run for run in self._runs.values() if run.state == "running"]
        if any(run.group == group for run in running):
            raise Problem(409, f"a replay in group {group!r} is running already")
        if len(running) >= MAX_RUNNING:
            raise Problem(503, f"{len(running)} replays are running already", headers={"Retry-After": "10"})
        run = ReplayRun(group=group, topic=topic, by=by, started_ms=self._clock.time_ms())
        before = self._runs.pop(group, None)
        self._runs[group] = run  # its place is taken while it is noted
        try:
            await note(run)
        except BaseException:
            del self._runs[group]
            if before is not None:
                self._runs[group] = before
            raise
        while len(self._runs) > MAX_KEPT:
            oldest = next(name for name, kept in self._runs.items() if kept.state != "running")
            del self._runs[oldest]
        task = asyncio.create_task(self._run(run, words), name=f"replay {group}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return run

    def stop(self, run: ReplayRun) -> None:
        """Ask a replay to stop; the same request goes on where it was."""
        if run.process is not None and run.process.returncode is None:
            run.process.send_signal(signal.SIGTERM)

    async def close(self) -> None:
        """End all."""
        for run in self._runs.values():
            self.stop(run)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _run(self, run: ReplayRun, words: Sequence[str]) -> None:
        code: int | None = None
        try:
            run.process = process = await asyncio.create_subprocess_exec(
                *self._command,
                *words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**self._environment, "LOGQUEUE_API": self.api_url},
                start_new_session=True,
            )
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_hear(process, run))
                    tasks.create_task(_hear_words(process, run))
                code = await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        except OSError as error:
            run.detail = f"cannot be started: {error.strerror}"
        finally:
            self._end(run, code)

    def _end(self, run: ReplayRun, code: int | None) -> None:
        run.finished_ms = self._clock.time_ms()
        if run.summary is not None:
            run.state = "done" if run.summary.get("is_complete") else "stopped"
        else:
            run.state = "failed"
            run.detail = run.detail or " ".join(run.last_words) or f"it ended with exit code {code}"
        _log.info("replay ended", group=run.group, state=run.state)


async def _hear(process: asyncio.subprocess.Process, run: ReplayRun) -> None:
    """Progress lines, then the summary."""
    assert process.stdout is not None
    async for line in output_lines(process.stdout, max_bytes=MAX_SUMMARY_BYTES):
        try:
            document = read_value(line)
        except orjson.JSONDecodeError:
            continue  # printed by a handler
        if isinstance(document, dict):
            _take(document, run)


def _take(document: dict[str, Any], run: ReplayRun) -> None:
    """What the replay says of itself; a handler may print anything, and a line much like it."""
    match document:
        case {"event": "progress", "done": int(done), "total": int() | None as total}:
            run.done, run.total = done, total
        case {"is_complete": bool(), "group": run.group, "topic": str()}:
            run.summary = document
        case _:
            pass


async def _hear_words(process: asyncio.subprocess.Process, run: ReplayRun) -> None:
    assert process.stderr is not None
    async for line in output_lines(process.stderr):
        text = line.decode("utf-8", "replace").strip()
        if text:
            run.last_words.append(text)
