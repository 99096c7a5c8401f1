"""The Node clients that talk to the engines, installed as their lock file names them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.engines.apache import CACHE, EngineMissing
from tests.engines.shared import locked

FOLDER = Path(__file__).resolve().parents[1] / "clients" / "node"
NODE_MAJOR_MIN = 20
NPM_SECONDS = 100


def folder() -> Path:
    """The folder they are installed in. Raises EngineMissing."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise EngineMissing("node and npm are not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < NODE_MAJOR_MIN:
        raise EngineMissing(f"node {version} is older than {NODE_MAJOR_MIN}")
    with locked(CACHE / "node-clients.lock"):
        if not (FOLDER / "node_modules" / ".package-lock.json").exists():
            done = subprocess.run(["npm", "ci"], cwd=FOLDER, capture_output=True, text=True, timeout=NPM_SECONDS)
            if done.returncode:
                raise EngineMissing(f"npm ci failed in {FOLDER}:\n{done.stderr[-2000:]}")
    return FOLDER
