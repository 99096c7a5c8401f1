"""How many jobs a second does `logqueue replay` run again, from the first offset to the end?"""

from __future__ import annotations

import os
import subprocess
import time

from benchmarks import stack
from benchmarks.jobs import queues
from benchmarks.jobs.app import QUEUE
from benchmarks.jobs.ours import Ours
from benchmarks.report import Figures, Settings

SETTINGS: Settings = {"jobs": 50_000, "limit_seconds": 300}


def run(settings: Settings) -> Figures:
    """Run the jobs once, then replay them in a group of their own; starting the command is in the figure."""
    jobs, limit = int(settings["jobs"]), int(settings["limit_seconds"])
    with stack.everything() as up:
        ours = Ours(up, {})
        ours.enqueue(jobs)
        queues.drain(ours, jobs, concurrency=100, limit_seconds=limit)
        words = ["replay", f"jobs.{QUEUE}", "benchmarks.jobs.app:app", "--from", "0", "--group", "again"]
        command = [*stack.COMMAND, *words, "--bootstrap", up.bootstrap, "--api", up.api]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False, env=os.environ)
        took = time.perf_counter() - began
    if done.returncode or f"{jobs}" not in done.stdout.replace(",", ""):
        raise RuntimeError(f"replay ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}")
    return {"jobs/s": jobs / took, "s": took}
