"""Reading while the view is behind: job records follow their statuses. Knows of offsets alone.

A job whose record and status come in one batch is written once. Read apart it is written, looked up and written again,
in three indexes of four; and they do come apart, as each partition is read for itself. So statuses are read first, and
of the job topics as much as they speak of. Nothing but time depends on it (see `job.py`: knowledge joins in any order).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, TypeAlias

from logqueue.ids import TopicPartition
from logqueue_consumers.view.records import Record

Read: TypeAlias = list[tuple[TopicPartition, list[Record]]]

# Job records of one round, beside as many statuses as the follower hands out at once.
MAX_JOB_RECORDS: Final = 10_000
# Job records that are still on their way are waited for this long.
JOBS_WAIT_SECONDS: Final = 0.1
# After this many rounds with nothing job records are read all the same, until something else comes: some partition
# does not answer.
PATIENCE: Final = 50


class Followed(Protocol):
    """What is asked of a follower."""

    def assigned(self) -> Iterable[TopicPartition]: ...
    def position(self, at: TopicPartition) -> int: ...
    def is_at_end(self, at: TopicPartition) -> bool: ...
    async def read(
        self, *, timeout: float, of: Iterable[TopicPartition] = (), most: int | None = None
    ) -> Iterable[tuple[TopicPartition, list[Record]]]: ...


class Alignment:
    """Reads from a follower, job records behind the statuses that speak of them."""

    def __init__(
        self,
        follower: Followed,
        *,
        follows_statuses: Callable[[str], bool],
        origins: Callable[[Read], Mapping[TopicPartition, int]],
    ) -> None:
        """`follows_statuses` says which topics hold job records, `origins` how far statuses speak of them."""
        self._follower = follower
        self._follows_statuses = follows_statuses
        self._origins = origins
        self._spoken_of: dict[TopicPartition, int] = {}
        self._patience = PATIENCE

    async def read(self, into: Read, *, timeout: float) -> None:
        """Add what has come; nothing if none comes within `timeout` seconds. What is added stays if a read fails."""
        follower = self._follower
        jobs: list[TopicPartition] = []
        others: list[TopicPartition] = []
        for at in follower.assigned():
            (jobs if self._follows_statuses(at.topic) else others).append(at)
        if not jobs or not self._patience or all(follower.is_at_end(at) for at in others):
            into += await follower.read(timeout=timeout)
            if any(not self._follows_statuses(at.topic) for at, _ in into):
                self._patience = PATIENCE
            return
        into += await follower.read(timeout=timeout, of=others)
        self._patience = PATIENCE if into else self._patience - 1
        for at, offset in self._origins(into).items():
            self._spoken_of[at] = max(self._spoken_of.get(at, 0), offset)
        room = MAX_JOB_RECORDS
        for at in jobs:
            while room > 0 and (missing := self._spoken_of.get(at, 0) - follower.position(at)) > 0:
                found = list(await follower.read(timeout=JOBS_WAIT_SECONDS, of=[at], most=min(missing, room)))
                if not found:
                    break
                into += found
                room -= sum(len(records) for _, records in found)
