"""A child process: imports the App, runs one job after the other. `python -m logqueue_consumers.processes.child FD`.

Plain handlers run in the main thread, where a signal that we send ourselves can raise an exception in them; async ones
in a loop that lives as long as the process. Signals from outside do nothing: whoever stops the worker's process group
means the worker, which lets its jobs finish first.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import pickle
import signal
import socket
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec

from logqueue.jobs.context import JobContext
from logqueue.jobs.payload import encode_result
from logqueue_consumers.processes import frames
from logqueue_consumers.processes.carried_errors import pack
from logqueue_consumers.processes.child_services import ChildServices
from logqueue_consumers.processes.line import Line

if TYPE_CHECKING:
    from logqueue.jobs.app import App
    from logqueue.jobs.definition import JobDefinition

_PR_SET_PDEATHSIG = 1
_STOP_SIGNAL = signal.SIGUSR1


class HandlerStopped(BaseException):
    """Raised in a plain handler whose time is up; no `except Exception` of its own catches it."""


class Child:
    """One child's life."""

    def __init__(self, connection: socket.socket) -> None:
        self._line = Line(connection, on_stop=self._stop)
        self._main = threading.get_ident()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._is_in_handler = False
        self._services = ChildServices(self._line)

    def run(self) -> None:
        """Begin, then run calls; ends with the process."""
        signal.signal(_STOP_SIGNAL, self._raise_in_handler)
        for number in (signal.SIGINT, signal.SIGTERM):
            # Not SIG_IGN, which programs that a handler starts would inherit.
            signal.signal(number, lambda *_: None)
        threading.Thread(target=self._line.listen, name="line", daemon=True).start()
        begin = self._line.calls.get()
        assert isinstance(begin, frames.Begin), "the worker begins"
        bind_to(begin.parent)
        try:
            app = _load(begin)
        except BaseException as error:  # importing runs the user's code: anything may come out
            self._line.send(pack(error))
            return
        self._line.send(frames.Ready())
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            while True:
                call = self._line.calls.get()
                assert isinstance(call, frames.Call), "it begins once"
                self._line.send(self._answer(runner, app, call))

    def _answer(self, runner: asyncio.Runner, app: App, call: frames.Call) -> frames.Message:
        self._services.renew()
        try:
            definition = app.jobs[call.type]
            arguments = definition.codec.decode_json(call.arguments)
            ctx = _context(call.facts, self._services)
            if definition.is_async:
                result = runner.run(self._run_async(definition, ctx, arguments))
            else:
                result = self._run_plain(definition, ctx, arguments)
            return frames.Done(None if result is None else encode_result(result))
        except BaseException as error:  # SystemExit of a handler ends its job, not the process
            self._is_in_handler = False
            return pack(error)

    async def _run_async(self, definition: JobDefinition[..., Any], ctx: Any, arguments: msgspec.Struct) -> Any:
        self._task = asyncio.current_task()
        try:
            return await definition.invoke(ctx, arguments)
        finally:
            self._task = None

    def _run_plain(self, definition: JobDefinition[..., Any], ctx: Any, arguments: msgspec.Struct) -> Any:
        self._is_in_handler = True
        try:
            return definition.invoke(ctx, arguments)
        finally:
            self._is_in_handler = False

    def _stop(self, is_hard: bool) -> None:
        """The worker wants the job to end; called in the line's thread."""
        self._services.stop()
        task, loop = self._task, self._loop
        if task is not None and loop is not None:
            loop.call_soon_threadsafe(task.cancel)
        elif is_hard:
            signal.pthread_kill(self._main, _STOP_SIGNAL)

    def _raise_in_handler(self, number: int, place: FrameType | None) -> None:
        if self._is_in_handler:
            self._is_in_handler = False
            raise HandlerStopped("the job's time is up")


def bind_to(parent: int) -> None:
    """End with the worker, however it ends (PR_SET_PDEATHSIG, prctl(2)); elsewhere than on Linux the line tells."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:  # it ended before that
        os._exit(0)


def _load(begin: frames.Begin) -> App:
    sys.path[:] = begin.sys_path
    app: App = pickle.loads(begin.app).load()  # noqa: S301 - from our own worker
    app.configure(pickle.loads(begin.settings))  # noqa: S301 - the same
    return app


def _context(facts: dict[str, Any] | None, services: ChildServices) -> JobContext | None:
    return None if facts is None else JobContext(**facts, _services=services)


def main() -> None:
    """Run as the child of a worker; the descriptor of the line is the argument."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    Child(connection).run()


if __name__ == "__main__":
    main()
