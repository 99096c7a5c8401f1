"""A heartbeat: a worker process at one moment, as it stands in `jobs.workers`. Bytes <-> values; no IO.

Key: the worker's name (`host:pid`, as in statuses). Value: JSON. A worker that ends in good order leaves a tombstone.
Compaction keeps the last one of each worker, retention (an hour) removes those that ended otherwise.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from logqueue.version import __version__

if TYPE_CHECKING:
    from logqueue_consumers.metrics import WorkerMetrics

INTERVAL_S = 3.0
"""How often a worker writes one."""
LEASE_INTERVALS = 5
"""A worker that was not heard of for so many intervals is taken for gone."""

RUNNING, DRAINING = "running", "draining"


class RunningJob(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job that runs, among those that have run longest. Times in milliseconds since the epoch."""

    id: str
    type: str | None
    started_at: int
    deadline_at: int | None = None


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A worker at `at`. Times in milliseconds since the epoch; fields that a reader does not know are passed over."""

    worker: str
    at: int
    started_at: int
    app: str
    group: str
    host: str
    pid: int
    state: str = RUNNING
    interval_s: float = INTERVAL_S
    instance_id: str | None = None
    queues: tuple[str, ...] = ()
    concurrency: int = 0
    running: int = 0
    ready: int = 0
    """Jobs that wait for a runner."""
    delayed: int = 0
    held: int = 0
    unfinished: int = 0
    lag: int = 0
    succeeded: int = 0
    dead: int = 0
    retried: int = 0
    interrupted: int = 0
    partitions: dict[str, list[int]] = {}
    versions: dict[str, str] = {}
    oldest: tuple[RunningJob, ...] = ()
    breakers: dict[str, str] = {}
    """closed, open or half-open, by name."""
    problem: str | None = None
    """Why it gets on with nothing though there is work; None when it does, or when there is none."""

    @property
    def done(self) -> int:
        """Jobs that it ended."""
        return self.succeeded + self.dead

    def is_alive(self, now_ms: int) -> bool:
        """Whether it was heard of lately enough."""
        return now_ms - self.at <= self.interval_s * 1000 * LEASE_INTERVALS


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Heartbeat).decode


def encode(beat: Heartbeat) -> bytes:
    """The value of a record."""
    return _encode(beat)


def decode(value: bytes) -> Heartbeat:
    """A heartbeat of a record's value; ValueError or RecursionError for anything else."""
    return _decode(value)


@cache
def versions() -> dict[str, str]:
    """What this process is made of."""
    return {"logqueue": __version__, "python": platform.python_version()}


def counts_of(metrics: WorkerMetrics) -> dict[str, Any]:
    """The fields of a heartbeat that a worker's metrics tell."""
    return {
        "running": metrics.running,
        "ready": metrics.ready,
        "delayed": metrics.delayed,
        "unfinished": metrics.unfinished,
        "lag": metrics.lag,
        "succeeded": metrics.succeeded,
        "dead": metrics.dead,
        "retried": metrics.retried,
        "interrupted": metrics.interrupted,
        "breakers": dict(metrics.breakers),
    }
