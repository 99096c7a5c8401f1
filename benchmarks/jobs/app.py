"""The comparisons' jobs as an app of ours."""

from __future__ import annotations

import os

from benchmarks.jobs import work
from logqueue import App

QUEUE = "work"
JOB_TYPE = "wait"

app = App("work")
app.queue(QUEUE, default_type=JOB_TYPE, order=os.environ.get(work.ORDER, "tenant"))


@app.job(JOB_TYPE, queue=QUEUE)
async def wait(*, number: int, ms: int = 0) -> int:
    """Wait, and note it."""
    return await work.wait_async(number, ms)
