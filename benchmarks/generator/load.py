"""Builds and runs load.c, and reads the broker's processor time over the measured window. Knows no message."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.generator.build import built

SOURCE = Path(__file__).with_name("load.c")
ANSWER_TIMEOUT_SECONDS = 120
"""How long the broker may take to one answer, a fetch that waits for records too."""


@dataclass(frozen=True, slots=True)
class Load:
    """What was measured: answers and their waiting times; the broker's processor time, user and system."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    max_us: float
    cpu_seconds: float

    @property
    def requests_per_second(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds

    @property
    def cpu_us_per_request(self) -> float:
        """The broker's processor time for one request, in microseconds."""
        return self.cpu_seconds / self.requests * 1e6


def program() -> Path:
    """The compiled generator. Raises Missing."""
    return built(SOURCE)


def closed(
    address: str,
    frames: Sequence[bytes],
    *,
    check: int,
    cpu_seconds: Callable[[], float],
    connections: int = 1,
    depth: int = 1,
    warm_up: int = 0,
    requests: int = 0,
    seconds: float = 0.0,
) -> Load:
    """Keep `depth` requests open on every connection, for `seconds` or until `requests` answers came.

    `check` is where an answer has its error code, `cpu_seconds` tells the broker's processor time so far. Raises
    RuntimeError if an answer is an error, or does not come within ANSWER_TIMEOUT_SECONDS.
    """
    numbers = [connections, depth, warm_up, requests, seconds]
    return _run("closed", address, frames, [check, *numbers], cpu_seconds)


def parked(
    address: str,
    *,
    fetch: bytes,
    produce: bytes,
    check: int,
    produce_check: int,
    offset_position: int,
    offset: int,
    cpu_seconds: Callable[[], float],
    park_us: int,
    warm_up: int,
    requests: int,
) -> Load:
    """Time from sending a produce to the answer of a fetch that waits for it on another connection, one at a time."""
    numbers = [check, produce_check, offset_position, offset, park_us, warm_up, requests]
    return _run("parked", address, [fetch, produce], numbers, cpu_seconds)


def _run(
    mode: str, address: str, frames: Sequence[bytes], numbers: Sequence[float], cpu_seconds: Callable[[], float]
) -> Load:
    host, _, port = address.rpartition(":")
    with tempfile.NamedTemporaryFile(prefix="logqueue-bench-") as file:
        file.write(b"".join(frames))
        file.flush()
        command = [str(program()), mode, host, port, file.name, str(ANSWER_TIMEOUT_SECONDS), *map(str, numbers)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            assert process.stdin is not None and process.stdout is not None and process.stderr is not None
            result = ""
            try:
                if process.stdout.readline():
                    before = cpu_seconds()
                    process.stdin.write("\n")
                    process.stdin.flush()
                    result = process.stdout.readline()
                    used = cpu_seconds() - before
                problem = process.stderr.read().strip()
                code = process.wait()
            finally:
                process.kill()  # where something here went wrong: its end is waited for
        if code or not result:
            raise RuntimeError(f"the load generator ended with {code}: {problem}")
    return Load(**json.loads(result), cpu_seconds=used)
