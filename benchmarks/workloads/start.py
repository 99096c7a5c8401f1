"""How long does a broker take from exec to its first ApiVersions answer, and how much memory does it hold when idle?

Also how long `logqueue.testing.EmbeddedBroker`, which the pytest fixture starts, takes in a process that has imported
it: the first time, which loads what only a running broker needs, and again, which is what every further test waits for.
"""

from __future__ import annotations

import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import closing

from benchmarks import stack
from benchmarks.report import Figures, Settings

SETTINGS: Settings = {"port": 0, "fixtures": 5}
ATTEMPTS = 20_000
# ApiVersions v0: api_key 18, api_version 0, correlation id 1, null client id.
REQUEST = struct.pack(">ihhih", 10, 18, 0, 1, -1)
FIXTURES = """
import sys, time
from logqueue.testing import EmbeddedBroker
for _ in range(int(sys.argv[1])):
    broker = EmbeddedBroker()
    began = time.perf_counter()
    broker.start()
    print((time.perf_counter() - began) * 1000)
    broker.close()
"""


def run(settings: Settings) -> Figures:
    """Start one broker on an empty folder and ask it until it answers."""
    port = int(settings["port"]) or _free_port()
    with tempfile.TemporaryDirectory(prefix="logqueue-bench-") as folder:
        began = time.perf_counter()
        broker = stack.Process("--data-dir", folder, "--kafka-port", str(port), command=stack.BROKER)
        try:
            _first_answer(port)
            answered = time.perf_counter()
            memory = broker.rss_mib()
        finally:
            broker.end()
    first, *others = _fixtures(int(settings["fixtures"]))
    return {
        "first answer ms": (answered - began) * 1000,
        "idle RSS MiB": memory,
        "EmbeddedBroker, first, ms": first,
        "EmbeddedBroker, again, ms": statistics.median(others),
    }


def _fixtures(count: int) -> list[float]:
    """Milliseconds that brokers in one new process take to start, one after the other."""
    command = [sys.executable, "-c", FIXTURES, str(count + 1)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=stack.START_TIMEOUT_SECONDS)
    return [float(word) for word in done.stdout.split()]


def _first_answer(port: int) -> None:
    for _ in range(ATTEMPTS):
        try:
            with closing(socket.create_connection(("127.0.0.1", port))) as connection:
                connection.sendall(REQUEST)
                if connection.recv(4):
                    return
        except ConnectionRefusedError:
            time.sleep(0.0005)
    raise RuntimeError("the broker never answered")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
