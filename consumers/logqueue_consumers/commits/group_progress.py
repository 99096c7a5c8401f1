"""How far a group is in a partition: the commit, the offset map in its metadata, the ends of the log. No IO."""

from __future__ import annotations

from typing import NamedTuple

from logqueue_consumers.commits.notes import read_notes
from logqueue_consumers.commits.offset_map import decode


class Behind(NamedTuple):
    """`lag` counts the offsets from the commit to the end, `incomplete` those of them that are not finished.

    Both are 0 once everything has run. Before that, offsets that no worker has read yet count whether or not they hold
    a record: a transaction leaves a marker in each partition that it writes to (KIP-98).
    """

    lag: int
    incomplete: int


def behind(*, start: int, end: int, committed: int | None, metadata: str) -> Behind:
    """What is left between a commit (None: there is none) and the end of a log that begins at `start`."""
    if committed is None:
        return Behind(end - start, end - start)
    first = max(committed, start)
    runs = decode(read_notes(metadata, base=committed).map_text, base=committed)
    finished = sum(max(0, min(run.end, end) - max(run.start, first)) for run in runs)
    lag = max(end - first, 0)
    return Behind(lag, lag - finished)
