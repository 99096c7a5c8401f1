"""With 100 and with 10,000 recurring schedules: how late do their runs begin, and what do they cost a worker?

Each cell is so many schedules (the API takes 10,000) on a log of its own: `ticking` of them run every second, the
others next year. One worker keeps them and runs their jobs. Writing the schedules is in the time to the first run, and
those runs that came late meanwhile are not counted. A run takes 50 s, each cell 22 s and what reading it takes: of a
million, --set cells=1000000, two minutes.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks import late, stack
from benchmarks.clients import Sender
from benchmarks.jobs import queues
from benchmarks.report import Figures, Settings, percentile
from logqueue.jobs.schedules import PARTITION, SCHEDULE, Override, encode, new_schedule

SETTINGS: Settings = {"cells": "100 10000", "ticking": 10, "seconds": 20, "limit_seconds": 300}
TOPIC = "jobs.schedules"


def run(settings: Settings) -> Figures:
    """Every cell."""
    number = {name: int(value) for name, value in settings.items() if name != "cells"}
    figures: dict[str, float] = {}
    for cell in str(settings["cells"]).split():
        found = _measure(int(cell), number)
        figures |= {f"{cell} schedules: {name}": figure for name, figure in found.items()}
    return figures


def _measure(schedules: int, number: dict[str, int]) -> Figures:
    with tempfile.TemporaryDirectory(prefix="logqueue-bench-") as folder, stack.broker() as (_, bootstrap):
        file = Path(folder) / "late"
        cache = str(Path(folder) / "cache")
        env = {late.FILE: str(file), "LOGQUEUE_BOOTSTRAP": bootstrap, "LOGQUEUE_CACHE_DIR": cache}
        worker = stack.Process("worker", "benchmarks.late:app", env=env)
        try:
            worker.wait_for("ready")
            began = time.perf_counter()
            _set(bootstrap, schedules, ticking=number["ticking"])
            if not queues.wait_until(lambda: file.exists(), limit_seconds=number["limit_seconds"]):
                raise RuntimeError("no schedule ran")
            first_run = time.perf_counter() - began
            time.sleep(2)  # those that came late, because the schedules were being read
            seen, cpu = len(_read(file)), worker.cpu_seconds()
            time.sleep(number["seconds"])
            cpu = worker.cpu_seconds() - cpu
            lateness = sorted(_read(file)[seen:])
            memory = worker.rss_mib()
        finally:
            worker.end()
    return {
        "s to the first run": first_run,
        "late p50 ms": percentile(lateness, 0.5),
        "late p99 ms": percentile(lateness, 0.99),
        "runs/s": len(lateness) / number["seconds"],
        "worker CPU %": 100 * cpu / number["seconds"],
        "worker RSS MiB": memory,
    }


def _read(file: Path) -> list[float]:
    return [float(line) for line in file.read_text().split()]


def _set(bootstrap: str, schedules: int, *, ticking: int) -> None:
    """Write the schedules as the API does."""
    sender = Sender(bootstrap)
    now_ms = int(time.time() * 1000)
    for number in range(schedules):
        schedule = new_schedule(
            f"schedule-{number}",
            type=late.TICK_TYPE,
            queue=late.QUEUE,
            arguments={},
            every=1 if number < ticking else None,
            cron=None if number < ticking else "0 0 1 1 *",
        )
        value = encode(Override(schedule=schedule, by="bench", at=now_ms))
        sender.put(TOPIC, value, f"{SCHEDULE}schedule-{number}", partition=PARTITION)
    sender.finish()
