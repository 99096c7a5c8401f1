"""The finalized feature levels of this node (KIP-584): what clients are told, and what the broker acts by.

They are kept in `logqueue-features.json` of the data folder once one of them has been changed:

    {"version": 1, "epoch": 1, "finalized": {"transaction.version": 1}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.versions import FINALIZED_FEATURES, SUPPORTED_FEATURES
from logqueue.storage.errors import DataFolderError, StorageError
from logqueue.storage.file_system import write_atomically

if TYPE_CHECKING:
    from logqueue.storage.file_system import FileSystem

FILE_NAME = "logqueue-features.json"
VERSION = 1

TRANSACTION_VERSION = "transaction.version"


class FeatureUpdateFailed(KafkaError):
    """A level that this broker does not support, or a feature it does not know."""

    code = ErrorCode.FEATURE_UPDATE_FAILED


class Features:
    """Level by feature; `epoch` counts the changes. A feature at level 0 is not finalized."""

    def __init__(self, fs: FileSystem, folder: Path) -> None:
        self._fs = fs
        self._path = folder / FILE_NAME
        self.epoch = 0
        self.finalized: dict[str, int] = {name: levels.max for name, levels in FINALIZED_FEATURES.items()}
        self._read()

    def level(self, name: str) -> int:
        """The finalized level of a feature; 0 if it is not finalized."""
        return self.finalized.get(name, 0)

    @property
    def transaction_version(self) -> int:
        """2: every end of a transaction bumps the epoch; 1: flexible records; 0: as before KIP-890."""
        return self.level(TRANSACTION_VERSION)

    def check(self, name: str, level: int) -> None:
        """Raise FeatureUpdateFailed for a feature or level that is not supported; level 0 gives a feature up."""
        supported = SUPPORTED_FEATURES.get(name)
        if supported is None:
            raise FeatureUpdateFailed(f"there is no feature {name!r} here")
        if level != 0 and level not in supported:
            raise FeatureUpdateFailed(f"{name} has the levels {supported.min} to {supported.max}, not {level}")

    def update(self, levels: Mapping[str, int]) -> None:
        """Finalize levels, durably. Raises FeatureUpdateFailed or StorageError; then nothing has changed."""
        for name, level in levels.items():
            self.check(name, level)
        finalized = {name: level for name, level in {**self.finalized, **levels}.items() if level}
        document = {"version": VERSION, "epoch": self.epoch + 1, "finalized": finalized}
        try:
            write_atomically(self._fs, self._path, json.dumps(document).encode() + b"\n")
        except OSError as error:
            raise StorageError(f"writing {self._path} failed: {error.strerror}") from error
        self.finalized, self.epoch = finalized, self.epoch + 1

    def _read(self) -> None:
        content = self._fs.read_file(self._path)
        if content is None:
            return
        try:
            document = json.loads(content)
            if document["version"] <= VERSION:
                self.epoch = int(document["epoch"])
                self.finalized = {str(name): int(level) for name, level in document["finalized"].items()}
                return
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise DataFolderError(f"{self._path} is damaged or newer; restore it from a backup of the data folder")
