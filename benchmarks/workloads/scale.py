"""Does a job's cost stay the same as the backlog, the tenants or the partitions grow?

Each cell is a drain of its own, `JOBS/TENANTS/PARTITIONS`; the ratios are to the first one. Flat is within 20 %.
"""

from __future__ import annotations

import time

from benchmarks import stack
from benchmarks.jobs import queues
from benchmarks.jobs.ours import Ours
from benchmarks.report import Figures, Settings

SETTINGS: Settings = {
    "cells": "20000/100/16 200000/100/16 20000/20000/16 20000/100/1 20000/100/256",
    "concurrency": 100,
    "limit_seconds": 1_200,
}


def run(settings: Settings) -> Figures:
    """Drain every cell."""
    concurrency, limit = int(settings["concurrency"]), int(settings["limit_seconds"])
    figures: dict[str, float] = {}
    first = 0.0
    for cell in str(settings["cells"]).split():
        cost, rate = _drain(*cell_of(cell), concurrency=concurrency, limit=limit)
        first = first or cost
        figures[f"{cell} worker CPU us/job"] = cost
        figures[f"{cell} cost / first"] = cost / first
        figures[f"{cell} jobs/s"] = rate
    return figures


def cell_of(text: str) -> tuple[int, int, int]:
    """Jobs, tenants, partitions. Raises ValueError for anything else."""
    parts = text.split("/")
    if len(parts) != 3 or not all(part.isdigit() and int(part) for part in parts):
        raise ValueError(f"a cell is JOBS/TENANTS/PARTITIONS, for example 20000/100/16, not {text!r}")
    jobs, tenants, partitions = map(int, parts)
    return jobs, tenants, partitions


def _drain(jobs: int, tenants: int, partitions: int, *, concurrency: int, limit: int) -> tuple[float, float]:
    """The worker's processor time for a job in microseconds, starting left out; and jobs/s."""
    with stack.everything() as up:
        ours = Ours(up, {}, partitions=partitions, tenants=tenants)
        ours.enqueue(jobs)
        worker = ours.worker(concurrency=concurrency)
        try:
            began, before, cpu = time.perf_counter(), ours.finished(), worker.cpu_seconds()
            if not queues.wait_until(lambda: ours.finished() >= jobs, limit_seconds=limit):
                raise RuntimeError(f"{ours.finished()} of {jobs} jobs succeeded within {limit} s")
            took, used = time.perf_counter() - began, worker.cpu_seconds() - cpu
        finally:
            worker.end()
    return used / (jobs - before) * 1e6, (jobs - before) / took
