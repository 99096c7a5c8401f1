"""Starts the parts of logqueue as processes for a workload, and ends them by their id. Measures nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

COMMAND = (sys.executable, "-m", "logqueue_api.cli.main")
BROKER = (sys.executable, "-m", "logqueue.broker")
MOCK = (sys.executable, "-m", "benchmarks.peers.librdkafka_mock")
ACKS_ALL = -1
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 30
# Those of kafka-server-start.sh and kafka-run-class.sh.
JAVA_OPTIONS = ("-Xms1g", "-Xmx1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")


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


class Process(Watched):
    """One child, its ready line already read."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None, module: tuple[str, ...] = COMMAND) -> None:
        self._process = subprocess.Popen(
            [*module, *arguments], stdout=subprocess.PIPE, text=True, env=_environment(env or {})
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


def _environment(more: dict[str, str]) -> dict[str, str]:
    """What a user's shell has: compiled modules are kept, whatever this shell says."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**own, **more}


@contextmanager
def broker(*arguments: str) -> Iterator[tuple[Process, str]]:
    """A broker on a folder of its own: the process and its bootstrap address."""
    with tempfile.TemporaryDirectory(prefix="logqueue-bench-") as folder:
        child = Process("--data-dir", folder, "--kafka-port", "0", *arguments, module=BROKER)
        child.data_dir = Path(folder)
        try:
            yield child, child.wait_for("ready on ").rsplit(" ", 1)[1]
        finally:
            child.end()


@contextmanager
def log(engine: str, *, fsync: bool = True) -> Iterator[tuple[Watched, str]]:
    """A log to compare: `logqueue`, `apache` as its own scripts start it, or `mock`; acks wait for fsync, or do not.

    `mock` is librdkafka's, in memory. Apache Kafka fsyncs every append where asked to (`flush.messages`); by itself it
    leaves that to the kernel.
    """
    if engine == "logqueue":
        with broker("--override", f"logqueue.fsync.acks.all={str(fsync).lower()}") as running:
            yield running
        return
    if engine == "mock":
        mock = Process(module=MOCK)
        try:
            yield mock, mock.wait_for("ready on ").rsplit(" ", 1)[1]
        finally:
            mock.end()
        return
    from tests.engines.apache import node_from_jars

    settings = {"log.flush.interval.messages": "1"} if fsync else {}
    with (
        tempfile.TemporaryDirectory(prefix="logqueue-bench-") as folder,
        node_from_jars(Path(folder), settings, java_options=JAVA_OPTIONS) as (bootstrap, pid),
    ):
        yield Watched(pid), bootstrap


def waits_for_disk(settings: Mapping[str, int]) -> bool:
    """Whether acknowledgements are to wait for fsync: with `fsync=1`, and only those of acks=all do with us.

    A peer that fsyncs every append then would do so for acks=1 too, and be compared with what it does not promise.
    """
    return bool(settings["fsync"]) and settings["acks"] == ACKS_ALL


CountsTest = Callable[[dict[str, int]], bool]


@dataclass(frozen=True, slots=True)
class Running:
    """A running `logqueue up`."""

    bootstrap: str
    api: str

    def counts(self, queue: str) -> dict[str, int]:
        """Jobs of a queue by state, as the view has them."""
        with urllib.request.urlopen(f"{self.api}/v1/queues", timeout=30) as answer:
            for item in json.load(answer)["items"]:
                if item["queue"] == queue:
                    return dict(item["counts"])
        return {}


@contextmanager
def everything(*arguments: str, env: dict[str, str] | None = None, data_dir: Path | None = None) -> Iterator[Running]:
    """`logqueue up` on ports of its own, and a folder unless one is given; without an app no workers run."""
    with tempfile.TemporaryDirectory(prefix="logqueue-bench-") as own:
        folder = str(data_dir or own)
        ports = ["--kafka-port", "0", "--http-port", "0"]
        child = Process("up", "--data-dir", folder, *ports, *arguments, env=env)
        try:
            run_file = Path(folder) / "run.json"
            deadline = time.monotonic() + START_TIMEOUT_SECONDS
            while not run_file.exists():
                if time.monotonic() > deadline:
                    raise RuntimeError(f"`logqueue up` was not ready within {START_TIMEOUT_SECONDS} s")
                time.sleep(0.05)
            facts = json.loads(run_file.read_text())
            yield Running(facts["bootstrap"], facts["api"])
        finally:
            child.end()


def worker(bootstrap: str, processing: str) -> Process:
    """One more worker process of the no-op app."""
    return Process("worker", "benchmarks.noop:app", env={"LOGQUEUE_BOOTSTRAP": bootstrap, **processing_env(processing)})


def processing_env(processing: str) -> dict[str, str]:
    """What makes workers process in one of the two ways."""
    return {"LOGQUEUE_PROCESSING": processing}
