"""Does a job's cost stay the same as the backlog, the tenants or the partitions grow?

Each cell is a drain of its own, `JOBS/TENANTS/PARTITIONS`, and its cost the worker's processor time; the ratios are to
the first cell. Flat is within 20 %. For pending delays there is `pending`. A larger backlog: --set cells="100000/100/16
10000000/100/16", which takes about ten minutes.
"""

from __future__ import annotations

from benchmarks import stack
from benchmarks.jobs import queues
from benchmarks.jobs.ours import Ours
from benchmarks.report import Figures, InvalidSetting, Settings

BACKLOG = "100000/100/16 20000/100/16 1000000/100/16"
TENANTS = "100000/10/16 100000/10000/16 100000/100000/16"
PARTITIONS = "100000/100/1 100000/100/64 100000/100/256"
SETTINGS: Settings = {
    "cells": f"{BACKLOG} {TENANTS} {PARTITIONS}",
    "concurrency": 100,
    "limit_seconds": 1_200,
}


def run(settings: Settings) -> Figures:
    """Drain every cell."""
    concurrency, limit = int(settings["concurrency"]), int(settings["limit_seconds"])
    figures: dict[str, float] = {}
    first = 0.0
    cells = {cell: cell_of(cell) for cell in str(settings["cells"]).split()}
    for cell, sizes in cells.items():
        drained = _drain(*sizes, concurrency=concurrency, limit=limit)
        cost = drained.cpu_us_per_job
        first = first or cost
        figures[f"{cell} worker CPU us/job"] = cost
        figures[f"{cell} cost / first"] = cost / first
        figures[f"{cell} jobs/s"] = drained.jobs_per_second
    return figures


def cell_of(text: str) -> tuple[int, int, int]:
    """Jobs, tenants, partitions. Raises InvalidSetting for anything else."""
    parts = text.split("/")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise InvalidSetting(f"a cell is JOBS/TENANTS/PARTITIONS, for example 20000/100/16, not {text!r}")
    jobs, tenants, partitions = map(int, parts)
    return jobs, tenants, partitions


def _drain(jobs: int, tenants: int, partitions: int, *, concurrency: int, limit: int) -> queues.Drained:
    with stack.everything() as up:
        ours = Ours(up, {}, partitions=partitions, tenants=tenants)
        ours.enqueue(jobs)
        return queues.drain(ours, jobs, concurrency=concurrency, limit_seconds=limit)
