"""Starts the parts of logqueue as processes for a workload, and ends them by their id. Measures nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 30


def python_module(*words: str) -> tuple[str, ...]:
    """A command of this environment's interpreter."""
    return (sys.executable, *words)


COMMAND = python_module("-m", "logqueue_api.cli.main")
BROKER = python_module("-m", "logqueue.broker")


class Watched:
    """A running process, to be looked at."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def rss_mib(self) -> float:
        """Resident memory in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def cpu_seconds(self) -> float:
        """Processor time used so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def family(self) -> dict[str, Watched]:
        """What it has started, and what that has started, by command line."""
        found: dict[str, Watched] = {}
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            for pid in (task / "children").read_text().split():
                child = Watched(int(pid))
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                found |= {command: child, **child.family()}
        return found


class Process(Watched):
    """One child whose output is read for its ready line."""

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None, command: Sequence[str] = COMMAND) -> None:
        self._process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, text=True, env=_environment(env or {})
        )
        super().__init__(self._process.pid)
        self.data_dir = Path()  # of a broker

    def wait_for(self, words: str) -> str:
        """Read lines of its output until one holds `words`; an end before that is an error."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if words in line:
                return line.strip()
        raise RuntimeError(f"process ended with {self._process.wait()} before it said {words!r}")

    def end(self) -> None:
        """Stop it as an operator would, and wait."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """What a user's shell has: compiled modules are kept, whatever this shell says."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**own, **more}


@contextmanager
def server(command: Sequence[str], *, env: Mapping[str, str] | None = None) -> Iterator[tuple[Process, str]]:
    """A server that prints `ready on ADDRESS`: the process and its address."""
    child = Process(command=command, env=env)
    try:
        yield child, child.wait_for("ready on ").rsplit(" ", 1)[1]
    finally:
        child.end()


@contextmanager
def broker(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[tuple[Process, str]]:
    """A broker on a folder of its own: the process and its bootstrap address."""
    with tempfile.TemporaryDirectory(prefix="logqueue-bench-") as folder:
        command = (*BROKER, "--data-dir", folder, "--kafka-port", "0", *arguments)
        with server(command, env=env) as (child, bootstrap):
            child.data_dir = Path(folder)
            yield child, bootstrap


CountsTest = Callable[[dict[str, int]], bool]


@dataclass(frozen=True, slots=True)
class Running:
    """A running `logqueue up`."""

    bootstrap: str
    api: str
    process: Watched = field(compare=False)

    def counts(self, queue: str) -> dict[str, int]:
        """Jobs of a queue by state, as the view has them."""
        with urllib.request.urlopen(f"{self.api}/v1/queues", timeout=30) as answer:
            for item in json.load(answer)["items"]:
                if item["queue"] == queue:
                    return dict(item["counts"])
        return {}

    def part(self, words: str) -> Watched:
        """The one process of its family whose command line holds `words`. Raises LookupError."""
        found = {command: child for command, child in self.process.family().items() if words in command}
        if len(found) != 1:
            raise LookupError(f"{len(found)} processes of `logqueue up` hold {words!r}: {sorted(found)}")
        return next(iter(found.values()))


@contextmanager
def everything(
    *arguments: str,
    env: dict[str, str] | None = None,
    data_dir: Path | None = None,
    ready_seconds: float = START_TIMEOUT_SECONDS,
) -> Iterator[Running]:
    """`logqueue up` on ports of its own, and a folder unless one is given; without an app no workers run.

    It is ready when its view has caught up with the log.
    """
    with tempfile.TemporaryDirectory(prefix="logqueue-bench-") as own:
        folder = str(data_dir or own)
        ports = ["--kafka-port", "0", "--http-port", "0"]
        child = Process("up", "--data-dir", folder, *ports, *arguments, env=env)
        try:
            run_file = Path(folder) / "run.json"
            deadline = time.monotonic() + ready_seconds
            while not run_file.exists():
                if time.monotonic() > deadline:
                    raise RuntimeError(f"`logqueue up` was not ready within {ready_seconds} s")
                time.sleep(0.05)
            facts = json.loads(run_file.read_text())
            yield Running(facts["bootstrap"], facts["api"], child)
        finally:
            child.end()


def worker(bootstrap: str, processing: str) -> Process:
    """One more worker process of the no-op app."""
    return Process("worker", "benchmarks.noop:app", env={"LOGQUEUE_BOOTSTRAP": bootstrap, **processing_env(processing)})


def processing_env(processing: str) -> dict[str, str]:
    """What makes workers process in one of the two ways."""
    return {"LOGQUEUE_PROCESSING": processing}
