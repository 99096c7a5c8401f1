"""How long after it is submitted does a job begin, and end, at a steady rate with an idle worker?

One job at a time is put in and waited for to be accepted, which is in the figures; it does nothing but note the times.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.jobs import queues
from benchmarks.jobs.work import read_notes
from benchmarks.report import Figures, Settings, percentile

SETTINGS: Settings = {"rate": 100, "seconds": 10, "concurrency": 10, "warm_up": 50, "limit_seconds": 60}
PEERS = queues.PEERS


def run(settings: Settings, queue: str = queues.OURS) -> Figures:
    """Submit at the rate; jobs of the warm-up are not counted."""
    number = {name: int(value) for name, value in settings.items()}
    jobs = number["warm_up"] + number["rate"] * number["seconds"]
    with tempfile.TemporaryDirectory(prefix="logqueue-bench-") as folder:
        notes = Path(folder) / "notes"
        with queues.running(queue, notes=notes) as running:
            worker = running.worker(concurrency=number["concurrency"])
            try:
                sent = []
                began = time.perf_counter()
                for each in range(jobs):
                    time.sleep(max(0.0, began + each / number["rate"] - time.perf_counter()))
                    sent.append(time.time())
                    running.enqueue(1, first=each)
                took = time.perf_counter() - began
                if not queues.wait_until(
                    lambda: not read_notes(notes).missing(jobs), limit_seconds=number["limit_seconds"]
                ):
                    raise RuntimeError(f"{read_notes(notes).missing(jobs)} of {jobs} jobs never ended")
            finally:
                worker.end()
        ran = read_notes(notes)
    counted = range(number["warm_up"], jobs)
    begins = sorted((ran.first_begins[each] - sent[each]) * 1000 for each in counted)
    ends = sorted((ran.ends[each] - sent[each]) * 1000 for each in counted)
    return {
        "begin p50 ms": percentile(begins, 0.5),
        "begin p99 ms": percentile(begins, 0.99),
        "end p50 ms": percentile(ends, 0.5),
        "end p99 ms": percentile(ends, 0.99),
        "submitted jobs/s": jobs / took,
    }
