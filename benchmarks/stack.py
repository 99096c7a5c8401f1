"""Starts the parts of logqueue as processes for a workload, and ends them by their id. Measures nothing.

Only the standard library: the peers' drivers import it too.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.jobs import work

START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 30
READ_BYTES = 65_536
SETTINGS_PREFIX = "LOGQUEUE_"


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
        """Processor time used so far, user and system, to the nanosecond; threads that have ended are in it.

        Raises OSError if the process is gone.
        """
        # The id of another process's clock, as clock_getcpuclockid(3) makes it; /proc/PID/stat has ticks of 10 ms.
        return time.clock_gettime(~self.pid << 3 | 2)

    def descendants(self) -> Iterator[Watched]:
        """What it has started, and what that has started."""
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            for pid in (task / "children").read_text().split():
                yield (child := Watched(int(pid)))
                yield from child.descendants()

    def family(self) -> dict[str, Watched]:
        """What it has started, and what that has started, by command line."""
        return {child.command(): child for child in self.descendants()}

    def command(self) -> str:
        """The command line."""
        return Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


class Process(Watched):
    """One child whose output is read for its ready line."""

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None, command: Sequence[str] = COMMAND) -> None:
        self._process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, bufsize=0, env=environment(env or {})
        )
        super().__init__(self._process.pid)
        self.data_dir = Path()  # of a broker
        self._unread = b""

    @property
    def exit_code(self) -> int | None:
        """How it ended, or None while it runs."""
        return self._process.poll()

    def wait_for(self, words: str, *, within_seconds: float = START_TIMEOUT_SECONDS) -> str:
        """Read lines of its output until one holds `words`. RuntimeError if it ends, or says nothing of it in time."""
        assert self._process.stdout is not None
        poller = select.poll()
        poller.register(self._process.stdout, select.POLLIN)
        deadline = time.monotonic() + within_seconds
        while (left := deadline - time.monotonic()) > 0:
            line, end, rest = self._unread.partition(b"\n")
            if end:
                self._unread = rest
                if words in (text := line.decode(errors="replace")):
                    return text.strip()
            elif poller.poll(left * 1000):
                more = os.read(self._process.stdout.fileno(), READ_BYTES)
                if not more:
                    code = self._process.wait(STOP_TIMEOUT_SECONDS)
                    raise RuntimeError(f"process ended with {code} before it said {words!r}")
                self._unread += more
        raise RuntimeError(f"process did not say {words!r} within {within_seconds:g} s")

    def end(self) -> None:
        """Stop it as an operator would, and wait."""
        self._process.terminate()
        wait_or_kill(self._process)
        assert self._process.stdout is not None
        self._process.stdout.close()


def wait_or_kill(process: subprocess.Popen[Any]) -> None:
    """Wait until a process that was told to stop has ended; after STOP_TIMEOUT_SECONDS kill it."""
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """What everything that is measured runs with: this shell's variables but the user's settings of logqueue, and more.

    No settings file is read either, and caches are kept in a folder of this run. Compiled modules are kept, whatever
    this shell says.
    """
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(SETTINGS_PREFIX) and name != "PYTHONDONTWRITEBYTECODE"
    }
    # An empty settings file: with none named, a logqueue.toml of the current folder would count.
    return {**own, "LOGQUEUE_CONFIG": os.devnull, "LOGQUEUE_CACHE_DIR": _cache_folder(), **more}


@functools.cache
def _cache_folder() -> str:
    """One for all workers of this process, as on a user's machine: who takes over from a killed one finds its files."""
    folder = tempfile.mkdtemp(prefix="logqueue-bench-cache-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def own_environment() -> Iterator[None]:
    """Have this process, whose clients read settings too, run with `environment`."""
    before = dict(os.environ)
    try:
        _replace_environment(environment({}))
        yield
    finally:
        _replace_environment(before)


def _replace_environment(variables: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


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
        folder = data_dir or Path(own)
        run_file = folder / "run.json"
        run_file.unlink(missing_ok=True)  # of a run that was killed
        ports = ["--kafka-port", "0", "--http-port", "0"]
        cache = {"LOGQUEUE_CACHE_DIR": str(folder / "cache")}  # where `up` has it by itself
        child = Process("up", "--data-dir", str(folder), *ports, *arguments, env={**cache, **(env or {})})
        try:
            deadline = time.monotonic() + ready_seconds
            while not run_file.exists():
                if child.exit_code is not None:
                    raise RuntimeError(f"`logqueue up` ended with {child.exit_code} before it was ready")
                if time.monotonic() > deadline:
                    raise RuntimeError(f"`logqueue up` was not ready within {ready_seconds} s")
                time.sleep(0.05)
            facts = json.loads(run_file.read_text())
            yield Running(facts["bootstrap"], facts["api"], child)
        finally:
            child.end()


def worker_env(settings: Mapping[str, int | str]) -> dict[str, str]:
    """What tells workers how to process, and in which order, as far as the settings say it."""
    names = {"processing": "LOGQUEUE_PROCESSING", "order": work.ORDER}
    return {variable: str(settings[name]) for name, variable in names.items() if name in settings}
