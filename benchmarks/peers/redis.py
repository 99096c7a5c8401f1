"""A Redis server for peers: on a free port, in memory, without AOF and snapshots, as the peers' guides run it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peers.missing import Missing
from benchmarks.stack import wait_or_kill

START_SECONDS = 20


@contextmanager
def server() -> Iterator[str]:
    """Run one and give its URL. Raises Missing."""
    program = shutil.which("redis-server")
    if program is None:
        raise Missing("this peer needs Redis (Debian package redis-server: no `redis-server` here)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="logqueue-bench-redis-") as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _wait_for(port, process)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            wait_or_kill(process)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Redis did not listen on port {port}") from None
            time.sleep(0.01)
