"""Does a job's cost stay the same as the backlog, the tenants or the partitions grow?

Each cell is a drain of its own, `JOBS/TENANTS/PARTITIONS`; the ratios are to the first one. Flat is within 20 %.
"""

from __future__ import annotations

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
        drained = _drain(*cell_of(cell), concurrency=concurrency, limit=limit)
        cost = drained.cpu_us_per_job
        first = first or cost
        figures[f"{cell} worker CPU us/job"] = cost
        figures[f"{cell} cost / first"] = cost / first
        figures[f"{cell} jobs/s"] = drained.jobs_per_second
    return figures


def cell_of(text: str) -> tuple[int, int, int]:
    """Jobs, tenants, partitions. Raises ValueError for anything else."""
    parts = text.split("/")
    if len(parts) != 3 or not all(part.isdigit() and int(part) for part in parts):
        raise ValueError(f"a cell is JOBS/TENANTS/PARTITIONS, for example 20000/100/16, not {text!r}")
    jobs, tenants, partitions = map(int, parts)
    return jobs, tenants, partitions


def _drain(jobs: int, tenants: int, partitions: int, *, concurrency: int, limit: int) -> queues.Drained:
    with stack.everything() as up:
        ours = Ours(up, {}, partitions=partitions, tenants=tenants)
        ours.enqueue(jobs)
        return queues.drain(ours, jobs, concurrency=concurrency, limit_seconds=limit)
