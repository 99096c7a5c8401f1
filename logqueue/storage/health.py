"""Whether a data folder may still be written. One failed fsync or write ends that, until a restart."""

from __future__ import annotations

from collections.abc import Collection

from logqueue.errors import KafkaError
from logqueue.storage.errors import DiskFull, StorageError
from logqueue.storage.file_system import NoSpace, remedy


class Health:
    """Shared by all logs of a folder.

    After a failed fsync the kernel may have dropped the bytes and marked them clean, so a second fsync that succeeds
    proves nothing (PostgreSQL's "fsyncgate"). The only honest way on is to stop, and to recover from what is on disk.
    """

    __slots__ = ("failure",)

    def __init__(self, failure: KafkaError | None = None) -> None:
        self.failure = failure

    def check(self) -> None:
        """Raise the error that ended writing, if there was one."""
        if self.failure is not None:
            raise type(self.failure)(self.failure.detail)

    def fail(self, action: str, error: OSError, *, passing: Collection[int] = ()) -> StorageError:
        """End writing; answers the error to raise. The first failure stays the one that is shown.

        What has changed nothing (NoSpace, and the error numbers that are `passing` here) ends nothing: it answers
        DiskFull.
        """
        if isinstance(error, NoSpace) or error.errno in passing:
            return DiskFull(f"{action} failed: {error.strerror or error}. Nothing was changed; {remedy(error)}")
        failure = StorageError(
            f"{action} failed: {error.strerror or error}. The data folder takes no more writes; "
            "mend the disk and restart, everything acknowledged so far is recovered"
        )
        if self.failure is None:
            self.failure = failure
        return failure
