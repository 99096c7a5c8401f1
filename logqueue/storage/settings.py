"""`logqueue-settings.json`: what was changed on the broker and on groups while they ran. Knows no setting's meaning.

{"version": 1, "resources": {"broker": {"": {"log.retention.ms": "1000"}, "1": {}}, "group": {"g": {...}}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from logqueue.storage.errors import DataFolderError
from logqueue.storage.file_system import FileSystem, write_atomically

FILE_NAME = "logqueue-settings.json"
VERSION = 1

Settings = dict[str, dict[str, dict[str, str]]]
"""Text by kind of resource, its name, and the setting's name."""


def read_settings(fs: FileSystem, folder: Path) -> Settings:
    """What is stored; nothing if the folder is new. Raises DataFolderError if the file makes no sense, or OSError."""
    path = folder / FILE_NAME
    content = fs.read_file(path)
    if content is None:
        return {}
    try:
        document = json.loads(content)
        if document["version"] > VERSION:
            raise DataFolderError(f"{path} has version {document['version']}; this logqueue reads up to {VERSION}")
        return {
            str(kind): {str(name): {str(k): str(v) for k, v in texts.items()} for name, texts in resources.items()}
            for kind, resources in document["resources"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataFolderError(f"{path} is damaged ({error!r}); restore it from a backup of the data folder") from None


def write_settings(fs: FileSystem, folder: Path, settings: Mapping[str, Mapping[str, Mapping[str, str]]]) -> None:
    """Replace the file durably. Raises OSError."""
    content = json.dumps({"version": VERSION, "resources": settings}, indent=1)
    write_atomically(fs, folder / FILE_NAME, content.encode() + b"\n")
