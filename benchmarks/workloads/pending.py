"""With 10,000 and with 1,000,000 jobs waiting for next year: how late does a due job begin, and at what cost?

Each cell is so many waiting jobs, on a log of its own. Late is how long after its time a job begins. A run takes three
and a half minutes: a cell at least 75 s, as jobs that are due within half a minute wait in memory and not in the log.
"""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import late, stack
from benchmarks.clients import Committed, Sender, create_topic
from benchmarks.jobs import queues
from benchmarks.report import Figures, Settings
from logqueue.jobs.times import format_time
from logqueue.jobs.topics import JOBS_PARTITIONS

SETTINGS: Settings = {"cells": "10000 1000000", "due": 300}
YEAR_MS = 365 * 86_400_000
SPACING_MS = 100
LIMIT_SECONDS = 900
FLUSH_SECONDS = 300
POLL_SECONDS = 0.1
TOPIC = f"jobs.{late.QUEUE}"
IDLE_SECONDS = 5
TENANTS = 1_000


def run(settings: Settings) -> Figures:
    """Every cell."""
    figures: dict[str, float] = {}
    for cell in str(settings["cells"]).split():
        found = _measure(int(cell), int(settings["due"]))
        figures |= {f"{cell} waiting: {name}": figure for name, figure in found.items()}
    return figures


def _measure(jobs: int, due: int) -> Figures:
    """Fill, then time jobs that fall due one after the other beside those that wait; then kill -9 and start again."""
    with tempfile.TemporaryDirectory() as folder, stack.broker() as (_, bootstrap):
        file = Path(folder) / "late"
        env = {
            late.FILE: str(file),
            "LOGQUEUE_BOOTSTRAP": bootstrap,
            "LOGQUEUE_CACHE_DIR": str(Path(folder) / "cache"),
        }
        create_topic(bootstrap, TOPIC, JOBS_PARTITIONS)
        worker = _worker(env)
        try:
            empty_mib = worker.rss_mib()
            began = time.perf_counter()
            _send(bootstrap, [int(time.time() * 1000) + YEAR_MS + number for number in range(jobs)])
            done_so_far = Committed(bootstrap, late.app.group, TOPIC)
            _wait(lambda: done_so_far() >= jobs)
            filled = time.perf_counter() - began
            _wait(lambda: _is_idle(worker))  # what was moved is indexed, and the collector has had its turn
            full_mib = worker.rss_mib()
            idle_cpu = worker.cpu_seconds()
            time.sleep(IDLE_SECONDS)
            idle_cpu = worker.cpu_seconds() - idle_cpu
            start_ms = int(time.time() * 1000) + 35_000  # beyond what waits in memory
            _send(bootstrap, [start_ms + number * SPACING_MS for number in range(due)])
            _wait(lambda: _count(file) >= due)
            delays = sorted(float(line) for line in file.read_text().split())
            os.kill(worker.pid, signal.SIGKILL)
            again = time.perf_counter()
            worker.end()
            _send(bootstrap, [int(time.time() * 1000) + 100])
            worker = _worker(env)
            _wait(lambda: _count(file) > due)
            took_over = time.perf_counter() - again
        finally:
            worker.end()
    return {
        "moved to wait jobs/s": jobs / filled,
        "late p50 ms": statistics.median(delays),
        "late p99 ms": delays[int(len(delays) * 0.99)],
        "late max ms": delays[-1],
        "earliest ms": delays[0],
        "idle worker CPU %": 100 * idle_cpu / IDLE_SECONDS,
        "worker RSS MiB": full_mib,
        "worker RSS before MiB": empty_mib,
        "s from kill -9 to the next due job": took_over,
    }


def _wait(is_reached: Callable[[], bool]) -> None:
    if not queues.wait_until(is_reached, limit_seconds=LIMIT_SECONDS, poll_seconds=POLL_SECONDS):
        raise RuntimeError(f"not reached within {LIMIT_SECONDS} s")


def _is_idle(worker: stack.Process) -> bool:
    """Whether a second passes in which it takes less than a tenth of a processor."""
    used = worker.cpu_seconds()
    time.sleep(1)
    return worker.cpu_seconds() - used < 0.1


def _worker(env: dict[str, str]) -> stack.Process:
    process = stack.Process("worker", "benchmarks.late:app", env=env)
    process.wait_for("ready")
    return process


def _count(file: Path) -> int:
    return file.read_text().count("\n") if file.exists() else 0


def _send(bootstrap: str, times_ms: list[int]) -> None:
    sender = Sender(bootstrap)
    for number, due_ms in enumerate(times_ms):
        headers = [("job-not-before", format_time(due_ms).encode())]
        sender.put(TOPIC, b"{}", f"tenant-{number % TENANTS}", headers=headers)
    sender.finish(FLUSH_SECONDS)
