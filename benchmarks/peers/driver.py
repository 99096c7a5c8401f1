"""Talks to a peer's driver: a process in the peer's environment that puts jobs in and counts what has ended.

One line of JSON each way: `[name, arguments...]` and its answer. The drivers are the modules `drive_*` here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
URL = "LOGQUEUE_BENCH_SERVER"
"""The variable with the URL of the peer's server, Redis or PostgreSQL."""
ON_POSTGRES = ("pgqueuer", "procrastinate")
ON_REDIS = ("arq", "bullmq", "celery", "dramatiq", "huey", "rq", "saq")
STOP_SECONDS = 20


class Driver:
    """The driver's process, as seen by the harness."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], url: str) -> None:
        self.env = {URL: url, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **env}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.env},
            cwd=ROOT,
        )

    def call(self, name: str, *arguments: object) -> Any:
        """Ask for one thing. Raises RuntimeError if the driver ends instead of answering."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the driver ended with {self._process.wait(STOP_SECONDS)} at {name!r}")
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(STOP_SECONDS)
        self._process.stdout.close()


def serve(commands: Mapping[str, Callable[..., object]]) -> None:
    """The driver's side: answer until the harness closes the pipe."""
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(commands[name](*arguments)), flush=True)


def python_module(*words: str) -> list[str]:
    """A command of this environment: `python -m ...`."""
    return [sys.executable, "-m", *words]
