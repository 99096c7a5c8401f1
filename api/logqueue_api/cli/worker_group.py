"""`logqueue worker --processes N`: N workers under one supervisor, which passes their lines on. Shell.

The first signal drains all of them; a second one is passed on, so that they hand back what runs; a third kills.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from logqueue_api.cli.app_loading import load_app
from logqueue_api.cli.exits import CommandError, ExitCode
from logqueue_api.cli.output import Output
from logqueue_api.cli.stack import Stack
from logqueue_api.up import plan as plans
from logqueue_api.up.child import ChildSpec, ChildState, Notice
from logqueue_api.up.supervisor import ChildFailed, Supervisor

DEFAULT_DRAIN_SECONDS = 25.0  # as WorkerLimits has it
STALE_SECONDS = 15.0
"""A health file that was not rewritten for so long is that of a blocked worker."""
READY = re.compile(r'logqueue worker ready|"event": "ready"')


def run_group(options: argparse.Namespace, stack: Stack, output: Output) -> int:
    """Run the workers until a signal; the exit code."""
    load_app(options.app).work_queues(options.queue)  # a mistake is told once, before anything is started
    with TemporaryDirectory(prefix="logqueue-workers-") as folder:
        return asyncio.run(WorkerGroup(options, stack, output, Path(folder)).run())


class WorkerGroup:
    """N workers of one app."""

    def __init__(self, options: argparse.Namespace, stack: Stack, output: Output, folder: Path) -> None:
        self._options = options
        self._stack = stack
        self._output = output
        self._folder = folder
        self._names = [f"worker-{number}" for number in range(1, options.processes + 1)]
        self._signals = 0
        self._stopping = asyncio.Event()
        self._supervisor: Supervisor
        self._is_ready = False

    async def run(self) -> int:
        """Start, watch, stop."""
        from logqueue_consumers.heartbeats.health import HealthServer, keep_file

        server = HealthServer(self.report)
        async with Supervisor(log_dir=None, on_notice=self._notice, on_line=self._pass_on) as self._supervisor:
            with self._taking_signals():
                if self._options.health_port is not None:
                    await server.start(host="0.0.0.0", port=self._options.health_port)  # noqa: S104 - for probes
                file = self._options.health_file
                keeping = asyncio.create_task(keep_file(file, self.report)) if file is not None else None
                try:
                    await self._work()
                except ChildFailed as error:
                    code = error.exit_code if error.exit_code in plans.FINAL_CODES else ExitCode.FAILED
                    raise CommandError(str(error), code=ExitCode(code)) from error
                finally:
                    await server.stop()
                    if keeping is not None:
                        keeping.cancel()
                        await asyncio.gather(keeping, return_exceptions=True)
        return ExitCode.OK

    def report(self) -> dict[str, Any]:
        """What health checks see: the workers whose own health files are gone or old."""
        children = self._supervisor.children
        wrong = [name for name in self._names if self._is_ready and not self._is_healthy(name)]
        return {
            "problem": f"not healthy: {', '.join(wrong)}" if wrong else None,
            "workers": {name: children[name].state.value for name in self._names if name in children},
        }

    async def _work(self) -> None:
        stopped = asyncio.create_task(self._stopping.wait())
        starting = asyncio.gather(*(self._supervisor.start(self._spec(name)) for name in self._names))
        failing = asyncio.create_task(self._supervisor.failed())
        either: set[asyncio.Future[Any]] = {starting, stopped, failing}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not stopped.done():
                starting.result() if starting.done() else failing.result()
                self._is_ready = True
                self._output.event(
                    {"event": "ready", "processes": len(self._names)},
                    f"logqueue worker ready: {len(self._names)} processes",
                )
                await asyncio.wait({stopped, failing}, return_when=asyncio.FIRST_COMPLETED)
                if failing.done():
                    failing.result()
            self._is_ready = False
            await self._supervisor.stop(self._names)
        finally:
            for task in (stopped, starting, failing):
                task.cancel()
            await asyncio.gather(stopped, starting, failing, return_exceptions=True)

    def _spec(self, name: str) -> ChildSpec:
        line = self._line(name)
        drain_seconds = DEFAULT_DRAIN_SECONDS if self._options.drain_timeout is None else self._options.drain_timeout
        return ChildSpec(
            name=name,
            command=lambda ready: line,
            environment={**os.environ, "PYTHONUNBUFFERED": "1"},
            ready_line=READY,
            ready_seconds=plans.WORKER_READY_SECONDS,
            stop_seconds=drain_seconds + plans.DRAIN_MARGIN_SECONDS,
            final_codes=plans.FINAL_CODES,
        )

    def _line(self, name: str) -> Sequence[str]:
        """The command of one worker: what this one was asked for, without what is ours."""
        asked = self._options
        line = [
            sys.executable,
            "-m",
            "logqueue_api.cli.main",
            "worker",
            asked.app,
            "--bootstrap",
            self._stack.bootstrap,
        ]
        line += ["--log-level", asked.log_level, "--health-file", str(self._health_file(name))]
        for queue in asked.queue or ():
            line += ["--queue", queue]
        values = {
            "--concurrency": asked.concurrency,
            "--drain-timeout": asked.drain_timeout,
            "--isolated": asked.isolated,
        }
        for option, value in values.items():
            line += [] if value is None else [option, str(value)]
        if asked.instance_id is not None:
            line += ["--instance-id", f"{asked.instance_id}-{name}"]
        line += ["--leave"] if asked.leave else []
        line += ["--json"] if asked.json else []
        return line

    def _health_file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _is_healthy(self, name: str) -> bool:
        if self._supervisor.children[name].state is not ChildState.READY:
            return True  # it is being started: the supervisor's business
        try:
            return time.time() - self._health_file(name).stat().st_mtime < STALE_SECONDS
        except OSError:
            return False

    @contextmanager
    def _taking_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self._take_signal)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _take_signal(self) -> None:
        self._signals += 1
        self._stopping.set()
        if self._signals == 2:
            for child in self._supervisor.children.values():
                if child.process is not None:
                    child.process.terminate()
        elif self._signals > 2:
            self._supervisor.hurry()

    def _notice(self, notice: Notice) -> None:
        print(f"logqueue: {notice.child} {notice.text}", file=sys.stderr, flush=True)

    def _pass_on(self, name: str, line: str) -> None:
        if self._output.is_json and line.startswith("{"):
            print(line, flush=True)  # an event of a worker
        else:
            print(f"{name} | {line}", file=sys.stderr, flush=True)
