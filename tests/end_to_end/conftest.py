"""A whole stack as users run it: `logqueue up` in processes of its own, on each engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Engine

READY_SECONDS = 60
STOP_SECONDS = 60
POLL_SECONDS = 0.05
LOGQUEUE = (sys.executable, "-m", "logqueue_api.cli.main")


@dataclass
class Stack:
    """One `logqueue up` of the flights, which can be stopped and started again on the same folder."""

    engine: Engine
    folder: Path
    prefix: str
    repository: Path
    _up: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """What every command of this stack runs with."""
        environment = {**os.environ, "LOGQUEUE_DATA_DIR": str(self.folder), "LOGQUEUE_TOPIC_PREFIX": self.prefix}
        environment.pop("LOGQUEUE_BOOTSTRAP", None)
        if self.engine.name != "embedded":
            environment["LOGQUEUE_BOOTSTRAP"] = self.engine.bootstrap
        return environment

    @property
    def facts(self) -> dict[str, Any]:
        """`run.json`."""
        facts: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
        return facts

    def start(self) -> None:
        """Start it, and wait until it says that everything is ready."""
        command = [*LOGQUEUE, "up", "examples.flights.app:app", "--kafka-port", "0", "--http-port", "0"]
        output = (self.folder.parent / "up.log").open("ab")
        with output:
            self._up = subprocess.Popen(
                command, env=self.environment, cwd=self.repository, stdout=output, stderr=output
            )
        self.until(lambda: (self.folder / "run.json").exists(), "run.json", READY_SECONDS)

    def stop(self) -> int:
        """Ctrl-C; returns the exit code."""
        assert self._up is not None
        self._up.send_signal(signal.SIGINT)
        code = self._up.wait(STOP_SECONDS)
        self._up = None
        return code

    def kill_if_left(self) -> None:
        """For the end of a failed test; `up` takes its children along."""
        if self._up is not None and self._up.poll() is None:
            self._up.kill()
            self._up.wait()

    def run(self, *command: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the user's in this stack's environment."""
        environment = {**self.environment, "LOGQUEUE_BOOTSTRAP": self.facts["bootstrap"]}
        done = subprocess.run(
            command, env=environment, cwd=self.repository, input=text, capture_output=True, text=True, timeout=100
        )
        if check:
            assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def logqueue(self, *arguments: str, check: bool = True) -> Any:
        """`logqueue ... --json`, parsed."""
        done = self.run(*LOGQUEUE, *arguments, "--json", check=check)
        return json.loads(done.stdout)

    def get(self, path: str, **query: Any) -> Any:
        """GET of the API, parsed."""
        answer = httpx.get(self.facts["api"] + path, params=query, timeout=40)
        answer.raise_for_status()
        return answer.json()

    def counts(self, queue: str = "flights") -> dict[str, int]:
        """Jobs of the queue by state; states without jobs are left out."""
        items = self.get("/v1/queues")["items"]
        found = [item["counts"] for item in items if item["queue"] == queue]
        return {state: count for state, count in (found[0] if found else {}).items() if count}

    def pages(self, **query: Any) -> Iterator[dict[str, Any]]:
        """All jobs of a listing, page after page."""
        cursor: dict[str, str] = {}
        while True:
            page = self.get("/v1/jobs", limit=500, **query, **cursor)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            cursor = {"cursor": page["next_cursor"]}

    def until(self, is_so: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Look again and again, with a bound."""
        deadline = time.monotonic() + seconds
        while not is_so():
            if self._up is None or self._up.poll() is not None:
                pytest.fail(f"`logqueue up` ended:\n{(self.folder.parent / 'up.log').read_text()[-3000:]}")
            if time.monotonic() > deadline:
                pytest.fail(f"no {what} within {seconds} s:\n{(self.folder.parent / 'up.log').read_text()[-3000:]}")
            time.sleep(POLL_SECONDS)


@pytest.fixture(scope="module")
def stack(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack that the tests of a module share."""
    root = tmp_path_factory.mktemp("stack")
    (root / "data").mkdir()
    repository = Path(__file__).resolve().parents[2]
    running = Stack(engine=engine, folder=root / "data", prefix=f"e2e-{os.getpid()}-", repository=repository)
    try:
        running.start()
        yield running
        assert running.stop() == 0
        assert not (running.folder / "run.json").exists()
    finally:
        running.kill_if_left()
