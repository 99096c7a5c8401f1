"""The app of the workload `pending`: a job that writes down how late it begins."""

from __future__ import annotations

import os
import time

from logqueue import App, JobContext
from logqueue.jobs.headers import NOT_BEFORE
from logqueue.jobs.times import parse_time

QUEUE = "late"
JOB_TYPE = "late"
FILE = "LOGQUEUE_BENCH_FILE"

app = App("late")
app.queue(QUEUE, default_type=JOB_TYPE, order="none")


@app.job(JOB_TYPE, queue=QUEUE)
async def late(ctx: JobContext) -> None:
    """Write the milliseconds between the due time and now."""
    now_ms = time.time() * 1000
    with open(os.environ[FILE], "a", encoding="ascii") as file:  # noqa: PTH123 - one short line
        file.write(f"{now_ms - parse_time(ctx.headers[NOT_BEFORE].decode()):.3f}\n")
