"""Where processes keep files of their own on this machine. Knows nothing of what is in them.

What lies there is believed, so nobody else may have put it there: a temporary folder, whose name anybody can take
first, counts only if it is this user's and nobody else can write to it.
"""

from __future__ import annotations

import os
import stat
import tempfile
from functools import cache
from pathlib import Path

import structlog

from logqueue.jobs.settings import Settings

log = structlog.get_logger(__name__)

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
NOWHERE = Path(os.devnull) / "logqueue"
"""Nothing can be made here, or found: whoever tries does without."""


def cache_folder(settings: Settings) -> Path:
    """`cache_dir` of the settings, else the user's cache folder (XDG), else a temporary one.

    Where somebody else has taken the temporary one's name, it is one of this process alone; NOWHERE if there is none.
    """
    if settings.cache_dir is not None:
        return Path(settings.cache_dir)
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "logqueue"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        return _temporary()
    return folder


def _temporary() -> Path:
    try:
        folder = Path(tempfile.gettempdir()) / f"logqueue-{os.getuid()}"
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            return folder if _is_ours(folder) else _instead_of(folder)
        return folder
    except OSError as error:
        log.warning("there is no folder to keep anything in", reason=str(error))
        return NOWHERE


@cache
def _instead_of(folder: Path) -> Path:
    own = Path(tempfile.mkdtemp(prefix="logqueue-", dir=folder.parent))
    log.warning("a folder that somebody else can write to is not used", folder=str(folder), instead=str(own))
    return own


def _is_ours(folder: Path) -> bool:
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & OTHERS_WRITE
