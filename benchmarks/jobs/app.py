"""The comparisons' jobs as an app of ours."""

from __future__ import annotations

import os

from benchmarks.jobs import work
from logqueue import App, JobContext, Retry

QUEUE = "work"
JOB_TYPE = "wait"
FLAKY_QUEUE = "flaky"
FLAKY_TYPE = "flaky"
SHARE_THAT_FAILS = 0.3
FAILURES = 2
RETRY = Retry(attempts=FAILURES + 1, first="100ms", factor=1, jitter=0)

app = App("work")
app.queue(QUEUE, default_type=JOB_TYPE, order=os.environ.get(work.ORDER, "tenant"))
app.queue(FLAKY_QUEUE, default_type=FLAKY_TYPE, order="none")


class Unlucky(Exception):
    """It will be tried again."""


@app.job(JOB_TYPE, queue=QUEUE)
async def wait(*, number: int, ms: int = 0) -> int:
    """Wait, and note it."""
    return await work.wait_async(number, ms)


@app.job(FLAKY_TYPE, queue=FLAKY_QUEUE, retry=RETRY)
async def flaky(ctx: JobContext, *, number: int, ms: int = 0) -> int:
    """Fail twice where the number says so."""
    if number % 10 < 10 * SHARE_THAT_FAILS and ctx.attempt <= FAILURES:
        raise Unlucky(f"attempt {ctx.attempt} of job {number}")
    return await work.wait_async(number, ms)
