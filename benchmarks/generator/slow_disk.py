"""A slower disk for a broker, ours or a peer's: what its environment needs, and how fast the disk itself is."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.generator.build import built

SOURCE = Path(__file__).with_name("slow_disk.c")
DELAY = "LOGQUEUE_BENCH_FSYNC_US"
PAGE_BYTES = 4096


def slowed(delay_us: int) -> dict[str, str]:
    """The variables under which a process waits that much longer for each fsync and fdatasync. Raises Missing.

    The library stands before libc's calls, so it is the same for Python, Java and C.
    """
    if not delay_us:
        return {}
    library = built(SOURCE, "-shared", "-fPIC", "-ldl")
    return {"LD_PRELOAD": str(library), DELAY: str(delay_us)}


@contextmanager
def exported(variables: Mapping[str, str]) -> Iterator[None]:
    """Have children that are started meanwhile inherit these variables."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def fsync_times_us(count: int, *, size: int = PAGE_BYTES, limit_seconds: float = math.inf) -> list[float]:
    """How long this machine's temporary folder takes to make `size` bytes durable, sorted; one at a time, appended.

    Fewer than `count` where the limit passes, but one at least.
    """
    until = time.perf_counter() + limit_seconds
    times: list[float] = []
    with tempfile.TemporaryFile(prefix="logqueue-bench-") as file:
        while len(times) < count and (not times or time.perf_counter() < until):
            os.pwrite(file.fileno(), b"x" * size, len(times) * size)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1e6)
    return sorted(times)
