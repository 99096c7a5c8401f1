"""The app of the job workloads: a job that does nothing, so that only the queue is timed."""

from __future__ import annotations

from logqueue import App

QUEUE = "bench"
JOB_TYPE = "noop"
TENANTS = 100

app = App("bench")
app.queue(QUEUE, default_type=JOB_TYPE)


@app.job(JOB_TYPE, queue=QUEUE)
async def noop(*, number: int = 0) -> None:
    """Do nothing."""
