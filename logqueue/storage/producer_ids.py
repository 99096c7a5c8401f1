"""Producer ids that were never given before: taken in blocks from the file `logqueue-producer-ids.json`.

{"version": 1, "next": 2000}
"""

from __future__ import annotations

import json
from pathlib import Path

from logqueue.storage.errors import DataFolderError
from logqueue.storage.file_system import FileSystem, write_atomically

FILE_NAME = "logqueue-producer-ids.json"
VERSION = 1
BLOCK_SIZE = 1000
"""Ids that one write of the file reserves, as in Kafka's AllocateProducerIds; a crash wastes what is left of them."""


class ProducerIds:
    """Hands out producer ids, each once in the life of a data folder."""

    def __init__(self, fs: FileSystem, folder: Path) -> None:
        self._fs = fs
        self._path = folder / FILE_NAME
        self._next = self._reserved = self._read()

    def take(self) -> int:
        """A new producer id. Raises OSError when a block cannot be reserved."""
        if self._next == self._reserved:
            content = json.dumps({"version": VERSION, "next": self._reserved + BLOCK_SIZE})
            write_atomically(self._fs, self._path, content.encode() + b"\n")
            self._reserved += BLOCK_SIZE
        taken = self._next
        self._next += 1
        return taken

    def _read(self) -> int:
        content = self._fs.read_file(self._path)
        if content is None:
            return 0
        try:
            document = json.loads(content)
            if document["version"] <= VERSION:
                return int(document["next"])
        except (ValueError, KeyError, TypeError):
            pass
        raise DataFolderError(f"{self._path} is damaged or newer; restore it from a backup of the data folder")
