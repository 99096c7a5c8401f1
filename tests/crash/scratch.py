"""A folder in memory, for data folders that are written and thrown away by the thousand."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

MEMORY = Path("/dev/shm")
LEAST_FREE_BYTES = 1 << 28


@contextmanager
def fast_folder() -> Iterator[Path]:
    """A fresh folder, in memory where the machine has room there; removed at the end."""
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > LEAST_FREE_BYTES
    with TemporaryDirectory(prefix="logqueue-crash-", dir=MEMORY if has_room else None) as folder:
        yield Path(folder)
