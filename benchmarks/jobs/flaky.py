"""Jobs of which some fail before they succeed, as an app by itself: its queue would change what the other's costs."""

from __future__ import annotations

from benchmarks.jobs import work
from logqueue import App, JobContext, Retry

APP = "benchmarks.jobs.flaky:app"
QUEUE = "flaky"
JOB_TYPE = "flaky"
SHARE_THAT_FAILS = 0.3
FAILURES = 2
RETRY = Retry(attempts=FAILURES + 1, first="100ms", factor=1, jitter=0)

app = App("flaky")
app.queue(QUEUE, default_type=JOB_TYPE, order="none")


class Unlucky(Exception):
    """It will be tried again."""


@app.job(JOB_TYPE, queue=QUEUE, retry=RETRY)
async def flaky(ctx: JobContext, *, number: int, ms: int = 0) -> int:
    """Fail twice where the number says so."""
    if number % 10 < 10 * SHARE_THAT_FAILS and ctx.attempt <= FAILURES:
        raise Unlucky(f"attempt {ctx.attempt} of job {number}")
    return await work.wait_async(number, ms)
