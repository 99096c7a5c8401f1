"""The app of the workloads `pending` and `schedules`: jobs that write down how late they begin."""

from __future__ import annotations

import os
import time

from logqueue import App, JobContext
from logqueue.jobs.headers import NOT_BEFORE
from logqueue.jobs.times import parse_time

QUEUE = "late"
JOB_TYPE = "late"
TICK_TYPE = "tick"
FILE = "LOGQUEUE_BENCH_FILE"

app = App("late")
app.queue(QUEUE, default_type=JOB_TYPE, order="none")


@app.job(JOB_TYPE, queue=QUEUE)
async def late(ctx: JobContext) -> None:
    """Write the milliseconds between the due time and now."""
    _write(parse_time(ctx.headers[NOT_BEFORE].decode()))


@app.job(TICK_TYPE, queue=QUEUE)
async def tick(ctx: JobContext) -> None:
    """A run of a schedule: its id says when it was due."""
    _write(parse_time(ctx.job_id.rpartition("@")[2]))


def _write(due_ms: float) -> None:
    now_ms = time.time() * 1000
    with open(os.environ[FILE], "a", encoding="ascii") as file:  # noqa: PTH123 - one short line
        file.write(f"{now_ms - due_ms:.3f}\n")
