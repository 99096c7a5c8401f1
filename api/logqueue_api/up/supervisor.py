"""The supervisor: starts children in order, restarts one that crashed, stops them in the opposite order.

It knows processes and time; not Kafka, HTTP, or what its children do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from logqueue.clock import Clock, SystemClock
from logqueue.errors import LogqueueError
from logqueue_api.up.backoff import Backoff, GiveUp, RestartLimits
from logqueue_api.up.child import Child, ChildSpec, ChildState, Notice
from logqueue_api.up.child_log import ChildLog
from logqueue_api.up.process import Process, describe_exit

TOLD_LINES = 12  # of a failed child's last output
NOT_READY = "not ready in time"


class ChildFailed(LogqueueError):
    """A child that no restart brings back; the text has its last output and where its log is."""

    def __init__(self, child: Child, reason: str) -> None:
        lines = list(dict.fromkeys(child.log.last_lines))[-TOLD_LINES:]  # what each start said again, once
        tail = "".join(f"\n  | {line}" for line in lines) or "\n  | (no output)"
        where = f"\n  log: {child.log.path}" if child.log.path is not None else ""
        super().__init__(f"{child.name} {reason}. Its last output:{tail}{where}")
        self.child = child.name
        self.exit_code: int | None = None


class Supervisor:
    """Owns children; use as an async context manager: leaving it leaves no child behind.

    `on_notice` hears what a person should see, `on_line` every line of every child, `on_change` that a child's
    state or pid has changed. `log_dir` None keeps no files of what children print.
    """

    def __init__(
        self,
        *,
        log_dir: Path | None,
        limits: RestartLimits | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_notice: Callable[[Notice], None] = lambda notice: None,
        on_line: Callable[[str, str], None] = lambda name, line: None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.children: dict[str, Child] = {}
        self._log_dir = log_dir
        self._limits = limits or RestartLimits()
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._on_notice = on_notice
        self._on_line = on_line
        self._on_change = on_change
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._failure: asyncio.Future[ChildFailed] | None = None

    async def __aenter__(self) -> Self:
        self._failure = asyncio.get_running_loop().create_future()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Whatever happened, nothing is left running."""
        self.hurry()
        if self._keepers:
            await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        for child in self.children.values():
            child.log.close()

    # -- starting ------------------------------------------------------------------------------------------------

    async def start(self, spec: ChildSpec) -> Child:
        """Start a child and wait until it is ready (one-shot: until it runs); raises ChildFailed."""
        child = self.launch(spec)
        await self._first(child.was_ready)
        return child

    def launch(self, spec: ChildSpec) -> Child:
        """Start a child without waiting."""
        assert spec.name not in self.children, f"two children are called {spec.name}"
        path = self._log_dir / f"{spec.name}.log" if self._log_dir is not None else None
        log = ChildLog(path, on_line=lambda line: self._take_line(spec.name, line))
        child = Child(spec=spec, backoff=Backoff(self._limits), log=log)
        self.children[spec.name] = child
        self._keepers[spec.name] = asyncio.create_task(self._keep(child), name=f"keep {spec.name}")
        return child

    async def failed(self) -> None:
        """Return never, but raise ChildFailed when a child cannot be brought back."""
        assert self._failure is not None, "use the supervisor as a context manager"
        raise await asyncio.shield(self._failure)

    async def _first(self, event: asyncio.Event) -> None:
        """Wait for the event, or raise the failure that comes before it."""
        assert self._failure is not None, "use the supervisor as a context manager"
        waiter = asyncio.create_task(event.wait())
        either: set[asyncio.Future[Any]] = {waiter, self._failure}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                raise self._failure.result()
        finally:
            waiter.cancel()

    # -- keeping -------------------------------------------------------------------------------------------------

    async def _keep(self, child: Child) -> None:
        """Run the child again and again until it is stopped, has succeeded (one-shot) or cannot be brought back."""
        try:
            while not child.stopping.is_set():
                ready_at, code, reason = await self._run_once(child)
                if child.stopping.is_set() or (child.spec.is_one_shot and code == 0):
                    break
                if not await self._mend(child, ready_at=ready_at, code=code, reason=reason):
                    return
            self._move(child, ChildState.ENDED)
        except Exception as error:  # a defect here must end `up` with its message, not leave a child unwatched
            self._fail(child, f"cannot be supervised: {type(error).__name__}: {error}", code=None)

    async def _run_once(self, child: Child) -> tuple[float | None, int, str]:
        """One run: (ready since, exit code, how it ended)."""
        self._move(child, ChildState.STARTING)
        child.ready_line_seen.clear()
        try:
            command = child.spec.command(child.ready)
            child.process = Process(command, environment=child.spec.environment, log=child.log)
        except OSError as error:
            child.log.feed(f"cannot be started: {error}\n".encode())
            return None, 127, f"cannot be started: {error.strerror}"
        self._on_change()
        exit_ = asyncio.create_task(child.process.wait())
        ready_at, reason = await self._await_ready(child, exit_)
        if ready_at is not None:
            self._move(child, ChildState.READY)
            child.was_ready.set()
        code = await exit_
        child.process = None
        return ready_at, code, reason or describe_exit(code)

    async def _await_ready(self, child: Child, exit_: asyncio.Task[int]) -> tuple[float | None, str]:
        """(the time it became ready, ""), or (None, why not); a child that is too slow is killed."""
        if child.spec.ready_line is None:
            return self._clock.monotonic(), ""
        getting_ready = asyncio.create_task(child.ready_line_seen.wait())
        stopping = asyncio.create_task(child.stopping.wait())
        try:
            await asyncio.wait(
                {getting_ready, exit_, stopping},
                timeout=child.spec.ready_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if getting_ready.done() and not exit_.done():
                return self._clock.monotonic(), ""
            if exit_.done() or stopping.done():
                return None, ""
            assert child.process is not None
            child.process.kill()
            return None, f"{NOT_READY} ({child.spec.ready_seconds:g} s)"
        finally:
            for task in (getting_ready, stopping):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _mend(self, child: Child, *, ready_at: float | None, code: int, reason: str) -> bool:
        """Decide about a child that ended by itself: True after the pause when it shall run again."""
        first_start = not child.was_ready.is_set()
        if first_start and (code in child.spec.final_codes or reason.startswith(NOT_READY)):
            self._fail(child, f"could not start: {reason}", code=code)
            return False
        # A worker that a job kills comes back to it: the log and the API must outlive that.
        is_able = child.ready_line_seen.is_set()
        decision = child.backoff.ended(ready_at=ready_at, now=self._clock.monotonic(), is_able=is_able)
        if isinstance(decision, GiveUp):
            self._fail(child, f"ended {decision.ends} times in a row as soon as it had started: {reason}", code=code)
            return False
        child.restarts += 1
        self._notice(child, f"ended ({reason}); starting again in {decision.delay:g} s", is_problem=True)
        self._move(child, ChildState.BACKING_OFF)
        pause = asyncio.ensure_future(self._sleep(decision.delay))
        stopping = asyncio.create_task(child.stopping.wait())
        try:
            await asyncio.wait({pause, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            stopping.cancel()
        return True

    def _fail(self, child: Child, reason: str, *, code: int | None) -> None:
        """A one-shot child that fails is a problem to show; any other ends the supervisor."""
        self._move(child, ChildState.FAILED)
        failure = ChildFailed(child, reason)
        failure.exit_code = code
        if child.spec.is_one_shot:
            child.was_ready.set()
            self._notice(child, str(failure), is_problem=True)
        elif self._failure is not None and not self._failure.done():
            self._failure.set_result(failure)

    # -- stopping ------------------------------------------------------------------------------------------------

    async def stop(self, *groups: list[str]) -> None:
        """Stop the named children group after group (default: one by one, last started first), each in its bound."""
        if not groups:
            groups = tuple([name] for name in reversed(self.children))
        for group in groups:
            await asyncio.gather(*(self._stop_child(self.children[n]) for n in group if n in self.children))

    async def retire(self, name: str) -> None:
        """Stop a child within its bound and forget it: its name is free again."""
        await self._stop_child(self.children[name])
        child = self.children.pop(name, None)
        self._keepers.pop(name, None)
        if child is not None:
            child.log.close()
        self._on_change()

    def restart(self, name: str) -> None:
        """Ask a child to end, and kill it if it does not within its bound; it is started again as after a crash."""
        process = self.children[name].process
        if process is not None:
            process.terminate()
            asyncio.get_running_loop().call_later(self.children[name].spec.stop_seconds, process.kill)

    def hurry(self) -> None:
        """End every child at once: the second Ctrl-C."""
        for child in self.children.values():
            child.stopping.set()
            if child.process is not None:
                child.process.kill()

    async def _stop_child(self, child: Child) -> None:
        keeper = self._keepers[child.name]
        child.stopping.set()
        if child.process is not None and not keeper.done():
            self._move(child, ChildState.STOPPING)
            child.process.terminate()
        _, late = await asyncio.wait({keeper}, timeout=child.spec.stop_seconds)
        if late:
            self._notice(child, f"did not stop in {child.spec.stop_seconds:g} s and was killed", is_problem=True)
            if child.process is not None:
                child.process.kill()
            await keeper

    # -- telling -------------------------------------------------------------------------------------------------

    def _take_line(self, name: str, line: str) -> None:
        child = self.children.get(name)
        if child is not None and child.spec.ready_line is not None and not child.ready_line_seen.is_set():
            match = child.spec.ready_line.search(line)
            if match is not None:
                child.ready = match
                child.ready_line_seen.set()
        self._on_line(name, line)

    def _move(self, child: Child, state: ChildState) -> None:
        child.state = state
        self._on_change()

    def _notice(self, child: Child, text: str, *, is_problem: bool = False) -> None:
        self._on_notice(Notice(child.name, text, is_problem=is_problem))
