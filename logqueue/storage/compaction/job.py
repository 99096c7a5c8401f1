"""One compaction as values: what it is to do and what came of it. JSON, so that another process can do it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from logqueue.storage.txn_index import AbortEntry

MAX_RELATIVE_OFFSET = 2**31 - 1

LOAD_FACTOR = 0.9
"""Share of the slots for keys that are used (log.cleaner.io.buffer.load.factor)."""


class LastBatch(NamedTuple):
    """What a live producer wrote last: the end of its last batch of records (None: markers only), and its epoch."""

    last_data_offset: int | None
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSegment:
    """A segment to be read: `size` bytes of log, and the sizes of its indexes."""

    base_offset: int
    size: int
    offset_index_bytes: int = 0
    time_index_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionJob:
    """Compact a log up to `end_offset`, the base of the first segment that is left alone.

    `segments` are all below it, oldest first; from `dirty_offset` on none has been compacted. `aborted` are the
    aborted transactions of the log from its start, `last_batches` the live producers. `memory_bytes` bounds the table
    of keys: what does not fit waits for the next time. `max_bytes_per_second` bounds reading and writing together.
    """

    folder: Path
    segments: tuple[SourceSegment, ...]
    dirty_offset: int
    end_offset: int
    now_ms: int
    delete_retention_ms: int
    segment_bytes: int
    segment_index_bytes: int
    index_interval_bytes: int
    memory_bytes: int = 128 * 1024 * 1024
    load_factor: float = LOAD_FACTOR
    buffer_bytes: int = 512 * 1024
    max_bytes_per_second: float = float("inf")
    aborted: tuple[AbortEntry, ...] = ()
    last_batches: tuple[tuple[int, int | None, int], ...] = ()  # producer id, last data offset, epoch

    def last_batch_of(self) -> dict[int, LastBatch]:
        """The live producers by id."""
        return {producer_id: LastBatch(offset, epoch) for producer_id, offset, epoch in self.last_batches}

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "folder": str(self.folder)})

    @classmethod
    def from_json(cls, text: str) -> CompactionJob:
        values: dict[str, Any] = json.loads(text)
        values["folder"] = Path(values["folder"])
        values["segments"] = tuple(SourceSegment(**segment) for segment in values["segments"])
        values["aborted"] = tuple(AbortEntry(*entry) for entry in values["aborted"])
        values["last_batches"] = tuple((pid, offset, epoch) for pid, offset, epoch in values["last_batches"])
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanedSegment:
    """One `.cleaned` segment, whole and synced: which segments it stands for, and what a log has to know of it."""

    replaces: tuple[int, ...]
    size: int
    max_timestamp: int
    offset_of_max_timestamp: int
    first_timestamp: int
    offset_index_bytes: int
    time_index_bytes: int
    txn_index_bytes: int

    @property
    def base_offset(self) -> int:
        return self.replaces[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionDone:
    """The end of a job: below `clean_offset` the log is compacted now. Figures are of the whole job."""

    clean_offset: int
    bytes_before: int
    bytes_after: int
    records_before: int
    records_after: int
    map_utilisation: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionFailed:
    """A job that came to nothing. `is_damage`: the log itself cannot be read, so trying again is no use."""

    reason: str
    is_damage: bool


Result = CleanedSegment | CompactionDone | CompactionFailed


def to_json(result: Result) -> str:
    """A result as one line."""
    return json.dumps({"type": type(result).__name__, **asdict(result)})


def parse_result(line: str) -> Result:
    """The result in a line of `to_json`."""
    values: dict[str, Any] = json.loads(line)
    match values.pop("type"):
        case "CleanedSegment":
            return CleanedSegment(**{**values, "replaces": tuple(values["replaces"])})
        case "CompactionDone":
            return CompactionDone(**values)
        case _:
            return CompactionFailed(**values)


def groups(job: CompactionJob, *, below: int) -> list[list[SourceSegment]]:
    """The segments that begin below an offset, in runs that fit one segment: by bytes, indexes and offset range.

    Small segments that compaction left come together this way (Kafka's groupSegmentsBySize).
    """
    grouped: list[list[SourceSegment]] = []
    total = SourceSegment(base_offset=0, size=0)
    for index, segment in enumerate(job.segments):
        if segment.base_offset >= below:
            break
        end = _end_of(job.segments, index, job.end_offset)
        if grouped and _fits(job, total, segment, end):
            grouped[-1].append(segment)
            total = replace(
                total,
                size=total.size + segment.size,
                offset_index_bytes=total.offset_index_bytes + segment.offset_index_bytes,
                time_index_bytes=total.time_index_bytes + segment.time_index_bytes,
            )
        else:
            grouped.append([segment])
            total = segment
    return grouped


def _end_of(segments: Sequence[SourceSegment], index: int, end_offset: int) -> int:
    return segments[index + 1].base_offset if index + 1 < len(segments) else end_offset


def _fits(job: CompactionJob, total: SourceSegment, segment: SourceSegment, end_offset: int) -> bool:
    return (
        total.size + segment.size <= job.segment_bytes
        and total.offset_index_bytes + segment.offset_index_bytes <= job.segment_index_bytes
        and total.time_index_bytes + segment.time_index_bytes <= job.segment_index_bytes
        and (segment.size == 0 or end_offset - 1 - total.base_offset <= MAX_RELATIVE_OFFSET)
    )
