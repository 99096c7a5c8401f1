"""What a commit's metadata says behind the offset map: a bookmark, jobs that may end their process, retries. No IO.

    <offset map, may be empty>[;b1<base64>][;t1<base64>][;x1<number>.<id>][;n1<base64>][;r1<base64>][;h1]

    | section | content                                                                                            |
    |---------|----------------------------------------------------------------------------------------------------|
    | b1      | the bookmark: varints, the position in status partition 0, 1, 2, ... (empty where it got too long)  |
    | t1      | a varint (ms since the epoch): every outcome from before that time is covered                       |
    | x1      | the owner writes in transactions: a number that no other of its commits has (hexadecimal), and its  |
    |         | transactional id                                                                                    |
    | n1      | jobs by name: pairs of varints, how far the offset is above the one before (the first: above the     |
    |         | committed offset) and `crashes * 4 + mark`                                                          |
    | r1      | jobs on a later attempt than their record says: varints, the earliest due time, then of each job how |
    |         | far its offset is above the one before (the first: above the committed offset), its attempt, how     |
    |         | much later than the earliest it is due (ms), and 0 or 1 + how long before that it failed first (s)   |
    | h1      | given up in good order while jobs still ran                                                         |

A job that failed and waits for a short retry keeps its record, which knows nothing of that: `r1` does.
Outcomes are written first and committed later, so a killed worker leaves outcomes that its last commit does not know.
Each commit therefore notes, per partition of the status topic, the offset below which every outcome of this worker is
covered. Whoever takes over reads the statuses from there on, and finished work does not run again. A record that moves
on (to be retried, ...) is durable before its status is; to find those without one, a commit also notes the time of the
oldest outcome that it does not cover, and moved records are read from that time on. A worker that gave
its partitions up in good order leaves no bookmark, or says so (`h1`): a bookmark alone means that the worker is gone
without a word. What follows from that is in `crashes.watch`.

A worker that writes outcomes and commits in one transaction has no outcomes that no commit covers, so it leaves no
bookmark; its `x1` says the same of its end, and lets whoever takes over end a transaction that it left open.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from logqueue.protocol.wire import uvarint
from logqueue_consumers.commits.offset_map import METADATA_LIMIT_BYTES, read_varints

SEPARATOR = ";"
BOOKMARK = "b1"
SINCE = "t1"
NAMES = "n1"
OWNER = "x1"
RETRIES = "r1"
HANDOVER = "h1"
MAX_BOOKMARK_CHARS = 240
"""A status topic of so many partitions that its positions would take more has none in the bookmark."""
MAX_NAMED = 32
"""Jobs of one partition that a commit can name: at most 11 characters each for offsets near each other."""

MAX_RETRIED = 64
"""Jobs of one partition whose later attempts a commit can name: about 11 characters each, of the 800 that are left
beside the largest map that intake allows."""


class Mark(IntEnum):
    """Why a job is named."""

    SUSPECT = 0
    """It was named when a worker ended; it has to run alone."""
    NAMED = 1
    """It may be running, beside others."""
    ALONE = 2
    """It may be running, and nothing else is."""
    PROVEN = 3
    """A worker ended while it ran alone."""


class Named(NamedTuple):
    """A job by its offset, and how many workers ended while it was named as running."""

    offset: int
    crashes: int
    mark: Mark


class Retried(NamedTuple):
    """A job in hand whose next (or present) attempt is not the one that its record says, and when it is due.

    Times are milliseconds since the epoch; `first_failed_ms` is None for a job that was put off and has not failed.
    """

    offset: int
    attempt: int
    due_ms: int
    first_failed_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitNotes:
    """Commit metadata, read. `bookmark` is None after an orderly end."""

    map_text: str
    bookmark: tuple[int, ...] | None
    named: tuple[Named, ...]
    is_handover: bool
    retried: tuple[Retried, ...] = ()
    owner: str | None = None
    """The transactional id of the worker that wrote this, if it writes in transactions."""
    since_ms: int | None = None
    """Outcomes from before this time are covered; None where the owner writes in transactions."""

    @property
    def has_crashed(self) -> bool:
        """The worker that wrote this did not give the partition up."""
        return (self.bookmark is not None or self.owner is not None) and not self.is_handover


def write_notes(
    map_text: str,
    *,
    base: int,
    bookmark: Sequence[int] | None = None,
    since_ms: int | None = None,
    owner: str | None = None,
    named: Iterable[Named] = (),
    retried: Iterable[Retried] = (),
    is_handover: bool = False,
) -> str:
    """The metadata of a commit at offset `base`; what tells of the owner is None when nothing is open any more.

    `owner` is a number and the transactional id with a point between them. Retries for which there is no room (never,
    while the map keeps to its bounds) are left out: they would run early after a crash.
    """
    text = map_text
    if bookmark is not None:
        packed = _pack(bookmark)
        text += SEPARATOR + BOOKMARK + (packed if len(packed) <= MAX_BOOKMARK_CHARS else "")
    if since_ms is not None:
        text += SEPARATOR + SINCE + _pack((since_ms,))
    if owner is not None:
        text += SEPARATOR + OWNER + owner
    numbers: list[int] = []
    position = base
    for job in sorted(named):
        numbers += (job.offset - position, job.crashes * 4 + job.mark)
        position = job.offset
    if numbers:
        text += SEPARATOR + NAMES + _pack(numbers)
    end = SEPARATOR + HANDOVER if is_handover else ""
    if jobs := sorted(retried):
        section = SEPARATOR + RETRIES + _pack_retried(jobs, base=base)
        text += section if len(text) + len(section) + len(end) <= METADATA_LIMIT_BYTES else ""
    return text + end


def read_notes(metadata: str, *, base: int) -> CommitNotes:
    """The metadata of a commit at offset `base`; sections that cannot be read (foreign, damaged) count as absent."""
    map_text, *sections = metadata.split(SEPARATOR)
    bookmark: tuple[int, ...] | None = None
    named: list[Named] = []
    retried: tuple[Retried, ...] = ()
    is_handover = False
    owner: str | None = None
    since_ms: int | None = None
    for section in sections:
        if section.startswith(OWNER):
            owner = section[len(OWNER) :].partition(".")[2] or None
            continue
        kind, numbers = section[:2], _unpack(section[2:])
        if numbers is None:
            continue
        if kind == BOOKMARK:
            bookmark = numbers
        elif kind == SINCE:
            since_ms = numbers[0] if numbers else None
        elif kind == NAMES:
            position = base
            for distance, fact in zip(numbers[::2], numbers[1::2], strict=False):
                position += distance
                named.append(Named(position, fact // 4, Mark(fact % 4)))
        elif kind == RETRIES:
            retried = tuple(_retried(numbers, base=base))
        elif kind == HANDOVER:
            is_handover = True
    return CommitNotes(
        map_text=map_text,
        bookmark=bookmark,
        named=tuple(named),
        retried=retried,
        is_handover=is_handover,
        owner=owner,
        since_ms=since_ms,
    )


def _pack_retried(jobs: Sequence[Retried], *, base: int) -> str:
    first_ms, position = min(job.due_ms for job in jobs), base
    numbers = [first_ms]
    for job in jobs:
        failed_s = 0 if job.first_failed_ms is None else 1 - min(0, (job.first_failed_ms - job.due_ms) // 1000)
        numbers += (job.offset - position, job.attempt, job.due_ms - first_ms, failed_s)
        position = job.offset
    return _pack(numbers)


def _retried(numbers: Sequence[int], *, base: int) -> Iterator[Retried]:
    values, position = iter(numbers), base
    first_ms = next(values, 0)
    for distance, attempt, later_ms, failed_s in zip(values, values, values, values, strict=False):
        position += distance
        due_ms = first_ms + later_ms
        yield Retried(position, attempt, due_ms, due_ms - (failed_s - 1) * 1000 if failed_s else None)


def _pack(numbers: Sequence[int]) -> str:
    return base64.b64encode(b"".join(map(uvarint, numbers))).decode("ascii")


def _unpack(text: str) -> tuple[int, ...] | None:
    try:
        packed = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    if packed and packed[-1] > 0x7F:
        return None
    return tuple(read_varints(packed))
