"""What `up` was asked for, and the children that makes. Builds values; starts nothing."""

from __future__ import annotations

import os
import re
import socket
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from logqueue_api.cli.exits import ExitCode
from logqueue_api.up.child import ChildSpec, Ready
from logqueue_api.up.scaling import ScaleLimits

BROKER = "broker"
API = "api"
FEED = "feed"
BROKER_READY = re.compile(r"logqueue broker ready on (\S+):(\d+)(?: \(metrics on (\S+)\))?")
API_READY = re.compile(r"logqueue api ready on (http://\S+?)/?$")
WORKER_READY = re.compile(r"logqueue worker ready")

BROKER_READY_SECONDS = 300.0  # recovery after a crash reads the tail of every partition
WORKER_READY_SECONDS = 120.0
BROKER_STOP_SECONDS = 30.0
API_STOP_SECONDS = 15.0
FEED_STOP_SECONDS = 5.0
DRAIN_MARGIN_SECONDS = 5.0  # a worker ends its drain by itself; this is for what comes after

# What a first start ends with when no second one would do better.
FINAL_CODES = frozenset({int(ExitCode.USAGE), int(ExitCode.IN_USE), int(ExitCode.APP)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One `logqueue up`. Ports may be 0.

    `workers` are run at least, `most_workers` at most (0: never more). `capacity` is what one may run at once.
    `queues` are those to work on (empty: all); `bootstrap` is an outside cluster, None for the embedded log.
    """

    app: str | None
    data_dir: Path
    host: str
    kafka_port: int
    http_port: int
    workers: int
    queues: tuple[str, ...]
    worker_options: tuple[str, ...]
    drain_seconds: float
    bootstrap: str | None
    feed: str | None
    feed_all: bool
    environment: Mapping[str, str]
    most_workers: int = 0
    capacity: int = 100

    @property
    def scale(self) -> ScaleLimits | None:
        """How many workers there may be; None: none."""
        if not self.app or not self.workers:
            return None
        return ScaleLimits(least=self.workers, most=max(self.workers, self.most_workers))


def broker_spec(plan: Plan) -> ChildSpec:
    """The embedded log. After a crash it comes back on the port that its clients know."""

    def command(ready: Ready | None) -> Sequence[str]:
        port = ready[2] if ready else str(plan.kafka_port)
        metrics_port = ready[3].rpartition(":")[2].partition("/")[0] if ready and ready[3] else "0"
        folder = ["--data-dir", str(plan.data_dir)]
        ports = ["--kafka-port", port, "--metrics-port", metrics_port]
        return _logqueue("broker", *folder, "--host", plan.host, *ports)

    return ChildSpec(
        name=BROKER,
        command=command,
        environment=_environment(plan),
        ready_line=BROKER_READY,
        ready_seconds=BROKER_READY_SECONDS,
        stop_seconds=BROKER_STOP_SECONDS,
        final_codes=FINAL_CODES,
    )


def api_spec(plan: Plan, *, bootstrap: str) -> ChildSpec:
    """The HTTP API with its fold of the topics, which may be behind when it is ready."""

    def command(ready: Ready | None) -> Sequence[str]:
        port = ready[1].rpartition(":")[2] if ready else str(plan.http_port)
        where = ["--bootstrap", bootstrap, "--data-dir", str(plan.data_dir)]
        app = ["--app", plan.app] if plan.app else []
        return _logqueue("api", *where, "--host", plan.host, "--http-port", port, "--health-workers", *app)

    return ChildSpec(
        name=API,
        command=command,
        environment=_environment(plan, bootstrap=bootstrap),
        ready_line=API_READY,
        stop_seconds=API_STOP_SECONDS,
        final_codes=FINAL_CODES,
    )


def worker_spec(plan: Plan, name: str, *, bootstrap: str, api: str) -> ChildSpec:
    """A worker with an identity of its own, so that its successor takes its partitions over without waiting."""
    assert plan.app is not None, "workers need an app"
    identity = f"{_machine(plan.data_dir)}-{name}"
    # It leaves at a stop: the next `up` may have fewer workers, and its partitions would wait for one that never comes.
    membership = ["--instance-id", identity, "--leave"]
    line = _logqueue("worker", plan.app, "--bootstrap", bootstrap, *membership, *plan.worker_options)
    return ChildSpec(
        name=name,
        command=lambda ready: line,
        environment=_environment(plan, bootstrap=bootstrap, api=api),
        ready_line=WORKER_READY,
        ready_seconds=WORKER_READY_SECONDS,
        stop_seconds=plan.drain_seconds + DRAIN_MARGIN_SECONDS,
        final_codes=FINAL_CODES,
    )


def feed_spec(plan: Plan, *, bootstrap: str, api: str) -> ChildSpec:
    """A module that puts jobs on the log and ends; it finds the stack in its environment."""
    assert plan.feed is not None, "there is something to feed"
    line = [sys.executable, "-m", plan.feed, *(["--all"] if plan.feed_all else [])]
    return ChildSpec(
        name=FEED,
        command=lambda ready: line,
        environment=_environment(plan, bootstrap=bootstrap, api=api),
        stop_seconds=FEED_STOP_SECONDS,
        is_one_shot=True,
    )


@dataclass(frozen=True, slots=True)
class Recipes:
    """How each child is made; a test puts tiny children here."""

    broker: Callable[[Plan], ChildSpec] = broker_spec
    api: Callable[..., ChildSpec] = api_spec
    worker: Callable[..., ChildSpec] = worker_spec
    feed: Callable[..., ChildSpec] = feed_spec


def _logqueue(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "logqueue_api.cli.main", *arguments]


def _environment(plan: Plan, **addresses: str) -> dict[str, str]:
    found = {f"LOGQUEUE_{name.upper()}": value for name, value in addresses.items()}
    found["LOGQUEUE_DATA_DIR"] = str(plan.data_dir)
    found["LOGQUEUE_CACHE_DIR"] = plan.environment.get("LOGQUEUE_CACHE_DIR", str(plan.data_dir / "cache"))
    return {**plan.environment, "PYTHONUNBUFFERED": "1", **found}


def _machine(data_dir: Path) -> str:
    """Names this `up` among all that may share an outside cluster: the host and the data folder."""
    return f"{socket.gethostname()}-{zlib.crc32(os.fsencode(data_dir.resolve())):08x}"
