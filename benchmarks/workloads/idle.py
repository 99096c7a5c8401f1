"""What do 1,000 idle consumers cost the broker: bytes for each connection, and processor time for fetches that wait?

First connections that have asked for ApiVersions and say no more; then as many of which each has a fetch waiting at the
end of the log, answered empty after `max_wait_ms` and sent again, as consumers do.
"""

from __future__ import annotations

import resource
import time
from contextlib import ExitStack

from benchmarks import logs
from benchmarks.generator import load
from benchmarks.generator.target import Target, one_record
from benchmarks.report import Figures, Settings
from benchmarks.stack import Watched
from logqueue.protocol.messages.api_versions import ApiVersionsRequest
from tests.broker.wire import Wire

SETTINGS: Settings = {"connections": 1_000, "seconds": 10, "max_wait_ms": 500}
PEERS = ("apache", "tansu")
OTHER_FILES = 1_000
"""Descriptors that a broker has open besides its connections, at most."""
SETTLE_SECONDS = 1.0
WARM_CONNECTIONS = 10


def run(settings: Settings, engine: str = logs.OURS) -> Figures:
    """Connections alone, then with fetches."""
    number = {name: int(value) for name, value in settings.items()}
    _allow_files(number["connections"] + OTHER_FILES)
    with logs.log(engine, fsync=False) as (broker, bootstrap), Target(bootstrap) as target:
        offset = target.append(one_record(100)) + 1
        _idle_bytes(broker, bootstrap, WARM_CONNECTIONS)
        idle = _idle_bytes(broker, bootstrap, number["connections"])
        most_mib = [0.0]

        def look() -> float:
            most_mib.append(broker.rss_mib())
            return broker.cpu_seconds()

        measured = load.closed(
            bootstrap,
            [target.fetch(offset, max_wait_ms=number["max_wait_ms"])],
            check=target.fetch_check,
            cpu_seconds=look,
            connections=number["connections"],
            warm_up=number["connections"],
            seconds=number["seconds"],
        )
    return {
        "bytes per idle connection": idle,
        "waiting: fetches/s": measured.requests_per_second,
        "waiting: broker CPU %": 100 * measured.cpu_seconds / measured.seconds,
        "waiting: broker CPU us/fetch": measured.cpu_us_per_request,
        "waiting: answered after p99 ms": measured.p99_us / 1000,
        "waiting: RSS MiB": max(most_mib),
    }


def _idle_bytes(broker: Watched, bootstrap: str, count: int) -> float:
    """By how much the broker's memory grows for each of `count` connections."""
    before = broker.rss_mib()
    with ExitStack() as connections:
        for _ in range(count):
            connections.enter_context(Wire(bootstrap)).call(0, ApiVersionsRequest())
        time.sleep(SETTLE_SECONDS)
        return (broker.rss_mib() - before) * (1 << 20) / count


def _allow_files(count: int) -> None:
    """Raise the limit of open files, which the broker inherits. Raises RuntimeError where the machine forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise RuntimeError(f"this machine allows {hard} open files, and {count} are needed (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
