"""`logqueue-uncleanable.json`: the logs that compaction has given up, and why. For people: nothing acts by it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from logqueue.storage.file_system import FileSystem, write_atomically

FILE_NAME = "logqueue-uncleanable.json"
_VERSION = 1


def read_uncleanable(fs: FileSystem, folder: Path) -> dict[str, str]:
    """Reasons by partition; none if the file is missing or damaged. Raises OSError."""
    try:
        content = json.loads(fs.read_file(folder / FILE_NAME) or b"{}")
        return {str(partition): str(reason) for partition, reason in content["partitions"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_uncleanable(fs: FileSystem, folder: Path, reasons: Mapping[str, str]) -> None:
    """Replace the file; without reasons there is none. Raises OSError."""
    path = folder / FILE_NAME
    if reasons:
        write_atomically(fs, path, json.dumps({"version": _VERSION, "partitions": dict(reasons)}, indent=1).encode())
    elif fs.read_file(path) is not None:
        fs.unlink(path)
