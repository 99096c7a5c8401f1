"""Where processes keep files of their own on this machine. Knows nothing of what is in them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from logqueue.jobs.settings import Settings


def cache_folder(settings: Settings) -> Path:
    """`cache_dir` of the settings, else the user's cache folder (XDG), else a temporary one."""
    if settings.cache_dir is not None:
        return Path(settings.cache_dir)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    folder = Path(base) / "logqueue"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir()) / f"logqueue-{os.getuid()}"
    return folder
