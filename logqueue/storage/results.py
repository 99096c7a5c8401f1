"""What calls of a log are given and answer, as values."""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import NamedTuple

from logqueue.storage.open_files import OpenFile


class Origin(Enum):
    """Who made a batch: a client is checked, the broker's own coordinators are trusted."""

    CLIENT = 0
    COORDINATOR = 1


class AppendResult(NamedTuple):
    """Where a batch is in the log. `log_append_time_ms` is -1 unless the topic stores the broker's time."""

    base_offset: int
    last_offset: int
    log_append_time_ms: int
    log_start_offset: int
    is_duplicate: bool = False


append_result = partial(tuple.__new__, AppendResult)
"""An AppendResult from a tuple of all its fields: a third of what calling the class costs, on the hottest path."""


class FetchSlice(NamedTuple):
    """Whole batches as they lie in a file: `size` bytes from `position`; size 0 and no file if there are none.

    Hold on to this value while its bytes are being sent: the descriptor stays open as long as `file` is held.
    `next_offset` is where to read on, or the offset asked for if the slice is empty.
    """

    file: OpenFile | None
    position: int
    size: int
    next_offset: int

    @property
    def fd(self) -> int:
        """The descriptor to read or send from; only of slices that are not empty."""
        assert self.file is not None, "an empty slice has no file"
        return self.file.fd
