"""What a soak does in turn. Each kind runs for about so many seconds in a folder, answers what it looked at, and raises
AssertionError with a short description at the first thing that is wrong. Imported when its turn comes.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Protocol

from tests.soak.broker_process import BrokerProcess
from tests.soak.kill import KillRun

START_AND_END_SECONDS = 180
"""What a program may take beyond the time it was given."""


class Kind(Protocol):
    def __call__(self, folder: Path, *, seed: int, seconds: float) -> str: ...


PLACES = {
    "power-cuts": "tests.crash.exploring:power_cuts",
    "kill": "tests.soak.kinds:kill",
    "disk-errors": "tests.crash.exploring:disk_errors",
    "simulation": "tests.simulation.exploring:simulation",
    "damage": "tests.crash.exploring:damage",
    "fuzz": "tests.soak.kinds:fuzz",
    "fidelity": "tests.soak.kinds:fidelity",
}
"""Where each kind is; a kind is a function like `kill` below."""


def kind(name: str) -> Kind:
    """The function of a kind."""
    module, function = PLACES[name].split(":")
    found: Kind = getattr(import_module(module), function)
    return found


def kill(folder: Path, *, seed: int, seconds: float) -> str:
    """Real clients on a broker that is killed. What comes after the trouble takes up to a minute more."""
    return str(KillRun(folder, seed=seed).run(seconds))


def fuzz(folder: Path, *, seed: int, seconds: float) -> str:
    """Malformed requests of every API; then the broker is killed, and has to start on what they have left."""
    from tests.security.fuzz import soak

    folder.mkdir(parents=True, exist_ok=True)
    broker = BrokerProcess(folder)
    try:
        broker.start()
        tally = soak(broker.direct, seconds=seconds, seed=seed)
        broker.kill()
        broker.start()
        broker.stop()
        found = broker.tracebacks()
        assert not found, f"the broker's log has a traceback:\n{found}"
    finally:
        broker.close()
    return f"{tally.thrown} malformed requests, {tally.answered} answered, {tally.ended} connections ended"


def fidelity(folder: Path, *, seed: int, seconds: float) -> str:
    """Random sessions on this broker and on Apache Kafka, compared."""
    return _run_program("tests.fidelity", folder, seed=seed, seconds=seconds)


def _run_program(module: str, folder: Path, *, seed: int, seconds: float) -> str:
    """A program with `--seconds` and `--seed` that ends with 0 if nothing was found; answers its last line."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", module, "--seconds", f"{seconds:.0f}", "--seed", str(seed)]
    with (folder / "output").open("w+") as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, timeout=seconds + START_AND_END_SECONDS, check=False
        )
        output.seek(0)
        text = output.read()
    assert done.returncode == 0, f"{module} ended with {done.returncode}:\n{text[-3000:]}"
    return text.strip().splitlines()[-1]
