"""By how much does deleting 2 GiB of segments delay the acknowledgements of a producer (acks=all, one record each)?"""

from __future__ import annotations

import time
from pathlib import Path

from confluent_kafka.admin import AdminClient

from benchmarks import stack
from benchmarks.report import Figures, percentile
from benchmarks.workloads.compaction import LARGE, TIMEOUT_SECONDS, alter, create, fill, latencies, shares

SETTINGS = {
    "topic_mib": 2048,
    "record_bytes": 1024,
    "keys": 100_000,
    "segment_mib": 512,
    "requests_per_second": 500,
    "idle_seconds": 15,
    "fsync": 1,
}
LEFT_BEHIND = 1
"""Segments that stay: the last one is written to."""


def run(settings: dict[str, int]) -> Figures:
    """Fill the topic, measure, let retention begin, measure until the files are gone."""
    overrides = {
        "log.retention.check.interval.ms": "200",
        "logqueue.fsync.acks.all": str(bool(settings["fsync"])).lower(),
    }
    words = [word for name, value in overrides.items() for word in ("--override", f"{name}={value}")]
    with stack.broker(*words) as (broker, bootstrap):
        admin = AdminClient({"bootstrap.servers": bootstrap})
        create(admin, settings, cleanup_policy="delete", retention_ms="-1")
        fill(bootstrap, settings)
        folder = broker.data_dir / f"{LARGE}-0"
        until = time.monotonic() + settings["idle_seconds"]
        idle = latencies(bootstrap, settings, lambda: time.monotonic() < until)
        before = _segment_files(folder)
        alter(admin, "retention.ms", "1")
        began = time.monotonic()
        busy = latencies(
            bootstrap,
            settings,
            lambda: _segment_files(folder) > LEFT_BEHIND and time.monotonic() - began < TIMEOUT_SECONDS,
        )
        took = time.monotonic() - began
        left = _segment_files(folder)
    if left > LEFT_BEHIND:
        raise RuntimeError(f"{left} of {before} segments were still there after {TIMEOUT_SECONDS} s")
    return {
        "deletion s": took,
        **shares("idle", idle),
        **shares("deleting", busy),
        "p99 deleting / idle": percentile(busy, 0.99) / percentile(idle, 0.99),
        "worst idle us": idle[-1],
        "worst deleting us": busy[-1],
        "worst lifted by ms": (busy[-1] - idle[-1]) / 1000,
    }


def _segment_files(folder: Path) -> int:
    """Segments on the disk, those about to go counted."""
    return sum(".log" in path.name for path in folder.iterdir())
