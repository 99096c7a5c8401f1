"""While one of ten tenants floods the queue, how long do jobs of the other nine wait for their begin?

The nine send one job each every `every_ms`; the jobs of all tenants take `ms`. `calm` is the same without the flood.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks import stack
from benchmarks.clients import Sender
from benchmarks.jobs import queues, work
from benchmarks.jobs.app import QUEUE
from benchmarks.jobs.ours import Ours
from benchmarks.report import Figures, Settings, percentile

SETTINGS: Settings = {
    "flood": 20_000,
    "ms": 5,
    "concurrency": 10,
    "every_ms": 100,
    "rounds": 50,
    "order": "none",
    "limit_seconds": 120,
}
OTHERS = 9
FLOODER = "flooder"


def run(settings: Settings) -> Figures:
    """First the calm, then the flood, on one stack with one worker."""
    number = {name: value for name, value in settings.items() if isinstance(value, int)}
    with tempfile.TemporaryDirectory(prefix="logqueue-bench-") as folder, stack.everything() as up:
        notes = Path(folder) / "notes"
        ours = Ours(up, {work.FILE: str(notes), **stack.worker_env(settings)})
        worker = ours.worker(concurrency=number["concurrency"])
        try:
            calm = _waits(up.bootstrap, notes, 0, number)
            ours.enqueue(number["flood"], ms=number["ms"], first=1_000_000, tenant=FLOODER)
            flooded = _waits(up.bootstrap, notes, 500_000, number)
        finally:
            worker.end()
        still = number["flood"] - sum(each >= 1_000_000 for each in work.read_notes(notes).ends)
    return {
        "calm p50 ms": percentile(calm, 0.5),
        "calm p99 ms": percentile(calm, 0.99),
        "flooded p50 ms": percentile(flooded, 0.5),
        "flooded p99 ms": percentile(flooded, 0.99),
        "flood jobs left at the end": still,
    }


def _waits(bootstrap: str, notes: Path, first: int, number: dict[str, int]) -> list[float]:
    """Send the rounds of the nine: the milliseconds from each send to its begin, sorted."""
    sender = Sender(bootstrap, {"linger.ms": 0})
    sent: dict[int, float] = {}
    began = time.perf_counter()
    for round_ in range(number["rounds"]):
        time.sleep(max(0.0, began + round_ * number["every_ms"] / 1000 - time.perf_counter()))
        for tenant in range(OTHERS):
            job = first + len(sent)
            sent[job] = time.time()
            sender.put(f"jobs.{QUEUE}", b'{"number":%d,"ms":%d}' % (job, number["ms"]), f"tenant-{tenant}")
    sender.finish(number["limit_seconds"])
    begun: dict[int, float] = {}

    def has_begun() -> bool:
        begun.update(work.read_notes(notes).first_begins)
        return sent.keys() <= begun.keys()

    if not queues.wait_until(has_begun, limit_seconds=number["limit_seconds"], poll_seconds=0.2):
        raise RuntimeError(f"{len(sent.keys() - begun.keys())} jobs of the nine never began")
    return sorted((begun[job] - at) * 1000 for job, at in sent.items())
