"""The parent's side: start the fold as a child process, hear its reports, start it again when it ends."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

import structlog

from logqueue.jobs.settings import CONFIG_VARIABLE, Settings, variable_name
from logqueue_consumers.view.process import DISCOVER
from logqueue_consumers.view.reports import Report, ReportReader

_log = structlog.get_logger("logqueue.view")

_ERROR_LINES: Final = 20  # of the child's last words


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildLimits:
    """Bounds of keeping the child alive, in seconds."""

    first_pause: float = 0.1  # before the first restart; doubles up to `longest_pause`
    longest_pause: float = 5.0
    stable_after: float = 10.0  # a child that lived this long starts the pauses again
    stop_timeout: float = 10.0  # then it is killed


class FoldChild:
    """A fold in a process of its own, for as long as the `async with` lasts.

    `on_report` is called on the event loop for each report. `problem` says why there is no fold at the moment.
    """

    def __init__(
        self,
        settings: Settings,
        path: Path,
        *,
        on_report: Callable[[Report], None],
        limits: ChildLimits | None = None,
    ) -> None:
        self._environment = environment_of(settings)
        self._path = path
        self._on_report = on_report
        self._limits = limits or ChildLimits()
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[NoReturn] | None = None
        self.problem: str | None = "the view has not started yet"
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """Process id of the running fold."""
        return None if self._process is None else self._process.pid

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep_alive(), name="fold child")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._keeper is not None
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)

    def discover_soon(self) -> None:
        """Ask the fold to look for new topics now."""
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(DISCOVER)

    async def _keep_alive(self) -> NoReturn:
        loop = asyncio.get_running_loop()
        pause = self._limits.first_pause
        while True:
            started = loop.time()
            last_words = await self._run_once()
            if loop.time() - started >= self._limits.stable_after:
                pause = self._limits.first_pause
            self.problem = last_words or "the fold process ended without a word"
            self.restarts += 1
            _log.warning("the fold ended; starting it again", reason=self.problem, pause_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._limits.longest_pause)

    async def _run_once(self) -> str:
        """One life of the child: its last words on stderr."""
        reading, writing = os.pipe()
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "logqueue_consumers.view",
                "--path",
                str(self._path),
                "--report-fd",
                str(writing),
                stdin=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(writing,),
                env=self._environment,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hear_reports(reading))
                words = tasks.create_task(_hear_words(process))
            await process.wait()
            return words.result()
        finally:
            await self._end(process)
            self._process = None

    async def _hear_reports(self, fd: int) -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        transport, _ = await loop.connect_read_pipe(
            lambda: _ReportPipe(self._take_report, ended), os.fdopen(fd, "rb", buffering=0)
        )
        try:
            await ended
        finally:
            transport.close()

    def _take_report(self, report: Report) -> None:
        self.problem = None
        self._on_report(report)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Ask it to stop by closing its standard input; after `stop_timeout` it is killed."""
        if process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(self._limits.stop_timeout):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):  # it has just ended by itself
                process.kill()
            await process.wait()


class _ReportPipe(asyncio.Protocol):
    """Hands reports on in the turn of the loop in which they come; `ended` is done when no more will."""

    def __init__(self, on_report: Callable[[Report], None], ended: asyncio.Future[None]) -> None:
        self._on_report = on_report
        self._ended = ended
        self._reader = ReportReader()

    def data_received(self, data: bytes) -> None:
        if self._ended.done():
            return
        try:
            for report in self._reader.feed(data):
                self._on_report(report)
        except Exception as error:  # the one who waits raises it, and the child is started again
            self._ended.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


async def _hear_words(process: asyncio.subprocess.Process) -> str:
    """Pass the child's log lines on, and keep the last ones."""
    assert process.stderr is not None
    lines: deque[str] = deque(maxlen=_ERROR_LINES)
    async for line in process.stderr:
        text = line.decode("utf-8", "replace")
        lines.append(text.strip())
        sys.stderr.write(text)
    return lines[-1] if lines else ""


def environment_of(settings: Settings) -> dict[str, str]:
    """For a child process: our environment with the settings spelled out, whatever file or argument they came from."""
    environment = {name: text for name, text in os.environ.items() if name != CONFIG_VARIABLE}
    for field in fields(Settings):
        value = getattr(settings, field.name)
        if value is None:
            environment.pop(variable_name(field.name), None)
        else:
            environment[variable_name(field.name)] = str(value)
    return environment
