"""One child process as its worker sees it: spawn, run a job, serve its context, end it. Shell."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import structlog

from logqueue.jobs.errors import ErrorClass
from logqueue.jobs.settings import Settings
from logqueue_consumers.processes import frames
from logqueue_consumers.processes.app_path import AppPath
from logqueue_consumers.processes.carried_errors import pack, unpack

if TYPE_CHECKING:
    from logqueue.jobs.context import ContextServices

log = structlog.get_logger(__name__)

START_TIMEOUT_S = 60.0
"""How long a child may take to import the App."""
END_TIMEOUT_S = 5.0
"""How long a killed process may take to be gone."""


class ProcessDied(Exception):
    """The process of an isolated job ended while the job ran: a crash of this job and of no other."""

    error_class = ErrorClass.CRASH


class ProcessNotStarted(Exception):
    """No process could be started for an isolated job; a later attempt may succeed."""

    error_class = ErrorClass.TRANSIENT


class ChildProcess:
    """A child, from its spawning to its end. It runs one job at a time."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._parts: dict[int, frames.PartRan] = {}
        """What functions of steps came to; steps of one job may run beside each other."""
        self._ended: frames.Done | frames.Raised | None = None
        """How the job ended, which may be in the middle of its steps."""
        self.is_free = True
        """Whether it has told how its last job ended, so that it can run the next one."""

    @classmethod
    async def start(cls, app: AppPath, settings: Settings) -> ChildProcess:
        """Spawn a child that has imported the App; ProcessNotStarted says why there is none."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = _spawn(theirs.fileno())
            except OSError as error:
                ours.close()
                raise ProcessNotStarted(f"no process for an isolated job: {error}") from None
        try:
            reader, writer = await asyncio.open_connection(sock=ours)
            child = cls(process, reader, writer)
            child._send(frames.Begin(os.getpid(), sys.path, pickle.dumps(app), pickle.dumps(settings)))
            async with asyncio.timeout(START_TIMEOUT_S):
                answer = await child._receive()
        except TimeoutError:
            kill(process)
            raise ProcessNotStarted(f"a process imports {app.module} for longer than {START_TIMEOUT_S:g} s") from None
        except BaseException:
            kill(process)
            raise
        if not isinstance(answer, frames.Ready):
            await child.end()
            reason = answer.text if isinstance(answer, frames.Raised) else "it ended"
            raise ProcessNotStarted(f"a process cannot import {app.module}: {reason}")
        return child

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    async def run(self, call: frames.Call, services: ContextServices | None) -> bytes | None:
        """Run one job; returns the JSON of its result. Raises what the handler raised, or ProcessDied."""
        self.is_free = False
        self._ended = None
        self._parts.clear()
        self._send(call)
        while True:
            message = await self._next()
            match message:
                case frames.Done():
                    self.is_free = True
                    return message.result
                case frames.Raised():
                    self.is_free = True
                    raise unpack(message)
                case None:
                    raise ProcessDied(f"the job's process ended while it ran: {_describe(await self._exit_code())}")
                case _:
                    await self._serve(services, message)

    def ask_to_stop(self, *, is_hard: bool) -> None:
        """Ask the job to end; hard: raise in it."""
        self._send(frames.Stop(is_hard))

    async def end(self) -> None:
        """Kill it, whatever it does, and wait until it is gone."""
        kill(self._process)
        self._writer.close()
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await self._exit_code()
        except TimeoutError:
            log.error("a killed process is not gone", pid=self.pid)

    async def _serve(self, services: ContextServices | None, message: frames.ToWorker) -> None:
        """Something that the running job wants of its context."""
        match message:
            case frames.Tell():
                _tell(services, message)
            case frames.Ask():
                await self._answer(services, message)
            case frames.PartRan():
                self._parts[message.number] = message

    async def _answer(self, services: ContextServices | None, ask: frames.Ask) -> None:
        try:
            value = await _value(services, ask, lambda: self._run_part(services, ask.number))
            answer = frames.Answer(ask.number, pickle.dumps(value))
        except Exception as error:
            answer = frames.Answer(ask.number, b"", pack(error))
        self._send(answer)

    async def _run_part(self, services: ContextServices | None, number: int) -> Any:
        """Have the function of a step run in the child, and serve what it asks for meanwhile."""
        self._send(frames.RunPart(number))
        while number not in self._parts:
            message = await self._next()
            if message is None or isinstance(message, frames.Done | frames.Raised):  # `run` learns it as well
                raise ProcessDied("the job ended in the middle of a step")
            await self._serve(services, message)
        ran = self._parts.pop(number)
        if ran.error is not None:
            raise unpack(ran.error)
        return pickle.loads(ran.value)  # noqa: S301 - from our own child

    async def _next(self) -> frames.ToWorker | None:
        """The next message of the job that runs; once it has ended its end, to all who wait for one."""
        if self._ended is None:
            message = await self._receive()
            if not isinstance(message, frames.Done | frames.Raised):
                return message
            self._ended = message
        return self._ended

    def _send(self, message: frames.Message) -> None:
        if not self._writer.is_closing():
            self._writer.write(frames.frame(message))

    async def _receive(self) -> frames.ToWorker | None:
        """The next message; None when the child is gone."""
        try:
            (size,) = frames.LENGTH.unpack(await self._reader.readexactly(frames.LENGTH.size))
            message: frames.ToWorker = frames.decode_to_worker(await self._reader.readexactly(size))
            return message
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def _exit_code(self) -> int:
        """Its line is closed, so it is about to be gone."""
        return await asyncio.to_thread(self._process.wait)


def _spawn(line: int) -> subprocess.Popen[bytes]:
    """Spawning does not await: there is no moment in which a child runs and nobody knows it."""
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-u", "-m", "logqueue_consumers.processes.child", str(line)],
        stdin=subprocess.DEVNULL,
        pass_fds=(line,),
        start_new_session=True,
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, unless it is gone."""
    if process.poll() is None:
        process.kill()


Part = Callable[[], Awaitable[Any]]


def _tell(services: ContextServices | None, tell: frames.Tell) -> None:
    if services is None:
        return
    arguments = pickle.loads(tell.arguments)  # noqa: S301 - from our own child
    match tell.method:
        case "progress":
            services.progress(*arguments)
        case "log":
            services.log(*arguments)
        case "record_effect":
            services.record_effect(*arguments)
        case _:
            raise AssertionError(f"no service is called {tell.method}")


async def _value(services: ContextServices | None, ask: frames.Ask, part: Part) -> Any:
    arguments = pickle.loads(ask.arguments)  # noqa: S301 - from our own child
    match ask.method:
        case "cancelled":
            return services is not None and services.cancelled
        case "send":
            return services.send(*arguments) if services is not None else None
        case "step":
            return await part() if services is None else await services.step(arguments[0], part)
        case "begin_effect" | "replayed_effect":
            assert services is not None, "a context in a worker has services"
            return getattr(services, ask.method)(*arguments)
        case _:
            raise AssertionError(f"no service is called {ask.method}")


def _describe(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
