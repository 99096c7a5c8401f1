"""The peers' packages, in an environment of their own in the cache folder: they never touch the project's."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.missing import Missing

CACHE = Path(__file__).resolve().parents[2] / ".cache"
REQUIREMENTS = {
    "arq": ("arq>=0.28",),
    "saq": ("saq[redis]>=0.26", "hiredis", "typing-extensions"),
    "huey": ("huey>=3", "redis"),
    "rq": ("rq>=3",),
    "celery": ("celery>=5.6", "redis", "packaging"),
    "dramatiq": ("dramatiq>=2", "redis"),
}
INSTALL_TIMEOUT_SECONDS = 600


def python(peer: str) -> str:
    """The interpreter that has a peer's packages; installed once per list of them. Raises Missing."""
    wanted = REQUIREMENTS[peer]
    key = hashlib.sha256("\n".join((sys.version, *wanted)).encode()).hexdigest()[:16]
    folder = CACHE / f"benchmarks-{peer}-{key}"
    interpreter = folder / "bin" / "python"
    if not (folder / "complete").exists():
        _run([sys.executable, "-m", "venv", str(folder)], peer)
        # Only wheels: building one would take the machine that is measured, and a compiler.
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--only-binary", ":all:", *wanted], peer)
        (folder / "complete").touch()
    return str(interpreter)


def _run(command: list[str], peer: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Missing(f"{peer} could not be installed within {INSTALL_TIMEOUT_SECONDS} s") from None
    if done.returncode != 0:
        raise Missing(f"{peer} could not be installed from PyPI: {(done.stdout + done.stderr)[-500:]}")
