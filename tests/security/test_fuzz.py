"""Malformed requests do not crash the broker, leave nothing behind, and get no traceback into its log."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logqueue.protocol.versions import SERVED
from tests.broker.wire import Wire, create
from tests.security.fuzz import Tally, garbage, serves, throw, volley

READY = re.compile(r"ready on (\S+)")
VOLLEYS = 8
RSS_SLACK_KIB = 40 * 1024
WAITS, WAIT_SECONDS = 100, 0.05


class Target:
    """A broker in a process of its own, watched from outside."""

    def __init__(self, folder: Path) -> None:
        self.log_path = folder / "stderr.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "logqueue.broker", "--data-dir", str(folder / "data"), "--kafka-port", "0"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        found = READY.search(self.process.stdout.readline())
        assert found is not None, self.log
        self.bootstrap = found[1]

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    @property
    def sockets(self) -> int:
        """How many sockets are open."""
        count = 0
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                count += str(entry.readlink()).startswith("socket:")
            except FileNotFoundError:
                continue  # closed meanwhile
        return count

    def has_closed_all_but(self, sockets: int) -> bool:
        """Whether no more sockets are open than that; the ends of the last connections may take a moment."""
        for _ in range(WAITS):
            if self.sockets <= sockets:
                return True
            time.sleep(WAIT_SECONDS)
        return False

    @property
    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text("utf-8")
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0])

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.log


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    running = Target(tmp_path_factory.mktemp("fuzz"))
    try:
        with Wire(running.bootstrap) as wire:
            create(wire, "fuzz")
        yield running
    finally:
        running.process.kill()
        running.process.wait(30)
        if running.process.stdout is not None:
            running.process.stdout.close()


def test_malformed_requests_of_every_api_are_answered_or_end_their_connection(target: Target) -> None:
    rng = random.Random(20_260_801)
    tally = Tally()
    volley(target.bootstrap, rng, tally)  # warm: imports and compiled codecs stay
    before_sockets, before_kib = target.sockets, target.rss_kib
    for _ in range(VOLLEYS):
        volley(target.bootstrap, rng, tally)
    assert tally.apis == set(SERVED)
    assert tally.answered > tally.thrown / 10
    assert target.process.poll() is None
    assert "Traceback" not in target.log, target.log[-4000:]
    assert target.has_closed_all_but(before_sockets)
    assert target.rss_kib < before_kib + RSS_SLACK_KIB


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), seed=st.integers(0, 2**32))
def test_no_bytes_on_the_port_hurt_others(target: Target, data: bytes, seed: int) -> None:
    throw(target.bootstrap, [data or b"\0", garbage(random.Random(seed))], Tally())
    assert serves(target.bootstrap)
    assert "Traceback" not in target.log


def test_it_stops_cleanly_after_all_that(target: Target) -> None:
    target.stop()
    assert "Traceback" not in target.log
