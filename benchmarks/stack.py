"""Starts the parts of logqueue as processes for a workload, and ends them by their id. Measures nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = (sys.executable, "-m", "logqueue_api.cli.main")
BROKER = (sys.executable, "-m", "logqueue.broker")
STOP_TIMEOUT_SECONDS = 30


class Process:
    """One child, its ready line already read."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None, module: tuple[str, ...] = COMMAND) -> None:
        self._process = subprocess.Popen(
            [*module, *arguments], stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
        )
        self.pid = self._process.pid

    def wait_for(self, words: str) -> str:
        """Read lines of its output until one holds `words`; an end before that is an error."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if words in line:
                return line.strip()
        raise RuntimeError(f"process ended with {self._process.wait()} before it said {words!r}")

    def rss_mib(self) -> float:
        """Resident memory in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def cpu_seconds(self) -> float:
        """Processor time used so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

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


@contextmanager
def broker(*arguments: str) -> Iterator[tuple[Process, str]]:
    """A broker on a folder of its own: the process and its bootstrap address."""
    with tempfile.TemporaryDirectory(prefix="logqueue-bench-") as folder:
        child = Process("--data-dir", folder, "--kafka-port", "0", *arguments, module=BROKER)
        try:
            yield child, child.wait_for("ready on ").rsplit(" ", 1)[1]
        finally:
            child.end()
