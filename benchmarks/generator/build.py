"""Compiles the C files of the harness into the cache folder, once for each content. Knows nothing of what they do."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.peers.environment import CACHE
from benchmarks.peers.missing import Missing

COMPILER = "cc"
TIMEOUT_SECONDS = 60


def built(source: Path, *options: str) -> Path:
    """What the compiler makes of a file, at its first use and whenever its content changes. Raises Missing."""
    key = hashlib.sha256(source.read_bytes() + "\0".join(options).encode()).hexdigest()[:16]
    result = CACHE / f"benchmarks-{source.stem}-{key}"
    if result.exists():
        return result
    if shutil.which(COMPILER) is None:
        raise Missing(f"{source.name} is C, and there is no compiler here (`{COMPILER}`)")
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        made = Path(folder) / "made"
        command = [COMPILER, "-O2", "-Wall", "-Wextra", *options, "-o", str(made), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
        if done.returncode != 0:
            raise Missing(f"{source.name} could not be compiled: {done.stderr[-500:]}")
        made.replace(result)
    return result
