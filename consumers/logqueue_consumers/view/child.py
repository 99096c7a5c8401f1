"""The parent's side: start the fold as a child process, hear its reports, start it again when it ends."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import structlog

from logqueue.jobs.settings import CONFIG_VARIABLE, Settings, variable_name
from logqueue_consumers.output_lines import output_lines
from logqueue_consumers.view.process import DISCOVER
from logqueue_consumers.view.reports import Report, ReportReader

_log = structlog.get_logger("logqueue.view")


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
            try:
                last_words = await self._run_once()
            except Exception as error:  # whatever it is: with nobody here the view would stand still for ever
                last_words = _reason(error)
            if loop.time() - started >= self._limits.stable_after:
                pause = self._limits.first_pause
            self.problem = last_words or "the fold process ended without a word"
            self.restarts += 1
            _log.warning("the fold ended; starting it again", reason=self.problem, pause_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._limits.longest_pause)

    async def _run_once(self) -> str:
        """One life of the child: its last words on stderr."""
        loop = asyncio.get_running_loop()
        reports_ended: asyncio.Future[None] = loop.create_future()
        reading, writing = os.pipe()
        with os.fdopen(writing, "wb", buffering=0) as reports:
            transport, _ = await loop.connect_read_pipe(
                lambda: _ReportPipe(self._take_report, reports_ended), os.fdopen(reading, "rb", buffering=0)
            )
            try:
                self._process = process = await self._start(report_fd=writing)
                reports.close()  # the child's alone from now on: it ends with it
                async with asyncio.TaskGroup() as tasks:
                    words = tasks.create_task(_hear_words(process))
                    try:
                        await reports_ended
                    finally:
                        await self._end(process)
                        await words  # to the end: asyncio knows of none before the pipe is empty
                return words.result()
            finally:
                transport.close()
                self._process = None

    async def _start(self, *, report_fd: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "logqueue_consumers.view",
            "--path",
            str(self._path),
            "--report-fd",
            str(report_fd),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(report_fd,),
            env=self._environment,
        )

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
    """Pass the child's log lines on: the last one."""
    assert process.stderr is not None
    last = ""
    async for line in output_lines(process.stderr):
        text = line.decode("utf-8", "replace")
        last = text.strip() or last
        with suppress(OSError):  # our own standard error may be gone
            sys.stderr.write(f"{text}\n")
    return last


def _reason(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def environment_of(settings: Settings) -> dict[str, str]:
    """For a child process: our environment with the settings spelled out, whatever file or argument they came from."""
    environment = {**os.environ, CONFIG_VARIABLE: os.devnull}  # not the file of the folder, which may be another one
    for field in fields(Settings):
        value = getattr(settings, field.name)
        if value is None:
            environment.pop(variable_name(field.name), None)
        else:
            environment[variable_name(field.name)] = str(value)
    return environment
