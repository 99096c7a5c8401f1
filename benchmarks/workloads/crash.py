"""After kill -9 of the only worker in the middle of 1,000 jobs of 20 ms, and the start of a new one: what is lost?

Also how many ran twice, of them how many that had ended before, and how long after the kill all have ended; where some
never do, that is the length of the watch, and they count as missing. Settings are the defaults but for the concurrency.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.jobs import queues
from benchmarks.jobs.work import read_notes
from benchmarks.report import Figures, Settings

SETTINGS: Settings = {"jobs": 1_000, "ms": 20, "concurrency": 10, "watch_seconds": 120}
PEERS = queues.PEERS
MIDDLE = 0.3
"""Share of the jobs that have ended when the worker is killed."""


def run(settings: Settings, queue: str = queues.OURS) -> Figures:
    """Enqueue, start a worker, kill it in the middle, start another."""
    jobs, concurrency, watch = (int(settings[name]) for name in ("jobs", "concurrency", "watch_seconds"))
    with tempfile.TemporaryDirectory(prefix="logqueue-bench-") as folder:
        notes = Path(folder) / "notes"
        with queues.running(queue, notes=notes) as running:
            running.enqueue(jobs, ms=int(settings["ms"]))
            worker = running.worker(concurrency=concurrency)
            try:
                if not queues.wait_until(lambda: len(read_notes(notes).ends) > MIDDLE * jobs, limit_seconds=watch):
                    raise RuntimeError(f"{queue} did not run {MIDDLE:.0%} of the jobs within {watch} s")
            finally:
                worker.kill()
            killed = time.time()
            ended = len(read_notes(notes).ends)
            worker = running.worker(concurrency=concurrency)
            try:
                queues.wait_until(lambda: not read_notes(notes).missing(jobs), limit_seconds=watch)
            finally:
                worker.end()
        after = read_notes(notes)
    missing = after.missing(jobs)
    return {
        "missing at the end": missing,
        "begun twice": after.repeated,
        "begun twice, ended before the kill": after.repeated_after_end(killed),
        "s from the kill until all have ended": watch if missing else max(after.ends.values()) - killed,
        "ended before the kill": ended,
    }
