"""How long does a broker take from exec to its first ApiVersions answer, and how much memory does it hold when idle?"""

from __future__ import annotations

import socket
import struct
import tempfile
import time
from contextlib import closing

from benchmarks import stack
from benchmarks.report import Figures

SETTINGS = {"port": 0}
ATTEMPTS = 20_000
# ApiVersions v0: api_key 18, api_version 0, correlation id 1, null client id.
REQUEST = struct.pack(">ihhih", 10, 18, 0, 1, -1)


def run(settings: dict[str, int]) -> Figures:
    """Start one broker on an empty folder and ask it until it answers."""
    port = settings["port"] or _free_port()
    with tempfile.TemporaryDirectory(prefix="logqueue-bench-") as folder:
        began = time.perf_counter()
        broker = stack.Process("--data-dir", folder, "--kafka-port", str(port), module=stack.BROKER)
        try:
            _first_answer(port)
            answered = time.perf_counter()
            memory = broker.rss_mib()
        finally:
            broker.end()
        return {"first answer ms": (answered - began) * 1000, "idle RSS MiB": memory}


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
