"""What does exactly-once processing cost, beside at-least-once (`--vs at_least_once`)?

A drain of no-op jobs as in `drain`; with the peer named, both ways of processing run in turns.
"""

from __future__ import annotations

from benchmarks.report import Figures, Settings
from benchmarks.workloads import drain
from logqueue.jobs.settings import AT_LEAST_ONCE, EXACTLY_ONCE

SETTINGS: Settings = {"jobs": 100_000, "workers": 1}
PEERS = (AT_LEAST_ONCE,)


def run(settings: Settings, processing: str = EXACTLY_ONCE) -> Figures:
    """Drain in one of the two ways."""
    return drain.run({**drain.SETTINGS, **settings, "processing": processing})
