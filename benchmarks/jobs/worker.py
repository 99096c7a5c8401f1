"""A worker process of a queue under comparison, ours or a peer's: started until it is ready, ended or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from benchmarks import stack

READY_SECONDS = 60
POLL_SECONDS = 0.01
STOP_SECONDS = 30


class Worker(stack.Watched):
    """A worker process with its children; what it prints goes to a file."""

    def __init__(self, command: list[str], *, ready: str, env: Mapping[str, str]) -> None:
        """Starts it and waits for the words `ready`. Raises RuntimeError with its last output if it ends before."""
        self._output = tempfile.NamedTemporaryFile(prefix="logqueue-bench-worker-")  # noqa: SIM115 - until `end`
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=stack.environment(env),
            start_new_session=True,
        )
        super().__init__(self._process.pid)
        try:
            self._wait_for(ready, command[0])
        except BaseException:
            self.kill()  # nobody else has it yet
            raise

    def _wait_for(self, ready: str, name: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while ready not in (said := Path(self._output.name).read_text(errors="replace")):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} never said {ready!r}: {said[-1000:]}")
            time.sleep(POLL_SECONDS)

    def cpu_seconds(self) -> float:
        """That of its children, too: some peers run their jobs there."""
        return super().cpu_seconds() + sum(child.cpu_seconds() for child in self.descendants())

    def kill(self) -> None:
        """kill -9, its children too; some may have ended already."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()

    def end(self) -> None:
        """Stop it as an operator would; what does not stop, or leaves children behind, is killed."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        self.kill()
