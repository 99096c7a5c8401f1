"""How many no-op jobs a second does everything together sustain: producer, log, one worker, and the view?

The producer keeps at most `backlog` jobs ahead of the view. Counted is what the view shows as succeeded.
"""

from __future__ import annotations

import time

from benchmarks import stack
from benchmarks.jobs import queues
from benchmarks.jobs.worker import POLL_SECONDS
from benchmarks.report import Figures, Settings

SETTINGS: Settings = {
    "seconds": 60,
    "backlog": 50_000,
    "chunk": 10_000,
    "concurrency": 100,
    "order": "tenant",
    "warm_up_seconds": 5,
}
PEERS = queues.PEERS


def run(settings: Settings, queue: str = queues.OURS) -> Figures:
    """Enqueue and run for the time, with a look at the counts before every chunk."""
    number = {name: value for name, value in settings.items() if isinstance(value, int)}
    with queues.running(queue, env=stack.worker_env(settings)) as running:
        worker = running.worker(concurrency=number["concurrency"])
        try:
            sent = _run_until(running, time.perf_counter() + number["warm_up_seconds"], 0, number)
            began, before, cpu = time.perf_counter(), running.finished(), worker.cpu_seconds()
            sent = _run_until(running, began + number["seconds"], sent, number)
            done, took = running.finished() - before, time.perf_counter() - began
            used = worker.cpu_seconds() - cpu
        finally:
            worker.end()
    return {"jobs/s": done / took, "worker CPU us/job": used / max(done, 1) * 1e6}


def _run_until(running: queues.Queue, end: float, sent: int, number: dict[str, int]) -> int:
    """Keep the backlog filled until `end`; how many jobs were sent in all."""
    while time.perf_counter() < end:
        if sent - running.finished() + number["chunk"] <= number["backlog"]:
            running.enqueue(number["chunk"], first=sent)
            sent += number["chunk"]
        else:
            time.sleep(POLL_SECONDS)
    return sent
