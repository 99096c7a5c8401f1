"""The process that compacts, seen from the broker. Blocking calls, each for a thread; knows no log."""

from __future__ import annotations

import os
import subprocess
import sys

from logqueue.storage.compaction.job import CompactionFailed, CompactionJob, Result, parse_result

END_SECONDS = 5.0
"""How long a process that was told to end may take before it is killed."""


class CompactionProcess:
    """Starts with the object, on the thread whose end it shall share."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
            [sys.executable, "-m", "logqueue.storage.compaction.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, job: CompactionJob) -> None:
        """Hand a job over. A process that is gone is told by `receive`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(job.to_json() + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):  # ended, or killed by another thread
            return

    def receive(self) -> Result:
        """Wait for the next result of the job."""
        assert self._process.stdout is not None
        try:
            line = self._process.stdout.readline()
        except ValueError:
            line = ""
        if line.endswith("\n"):
            return parse_result(line)
        return CompactionFailed(reason=f"the process that compacts ended with {self._process.wait()}", is_damage=False)

    def kill(self) -> None:
        """End it at once, whatever it is doing; `receive` then tells."""
        self._process.kill()

    def close(self) -> None:
        """End it, and wait for that."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
        except OSError:
            pass  # a job that could not be handed over
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
