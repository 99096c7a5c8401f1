"""The embedded broker as an engine under test, in a process of its own as users run it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.engines.guard import ended_with_us

STOP_TIMEOUT_SECONDS = 20


@contextmanager
def embedded(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run `python -m logqueue.broker` on a free port, with broker settings, and give its bootstrap address."""
    command = [sys.executable, "-m", "logqueue.broker", "--data-dir", str(folder / "data"), "--kafka-port", "0"]
    for name, value in (settings or {}).items():
        command += ["--override", f"{name}={value}"]
    with (folder / "broker.log").open("wb") as log:
        broker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert broker.stdout is not None
        ready = broker.stdout.readline()
        if "ready on " not in ready:
            raise RuntimeError(f"the embedded broker did not start:\n{(folder / 'broker.log').read_text()[-2000:]}")
        with ended_with_us(broker.pid):
            yield ready.rsplit(" ", 1)[1].strip()
    finally:
        broker.terminate()
        broker.wait(STOP_TIMEOUT_SECONDS)
        assert broker.stdout is not None
        broker.stdout.close()
