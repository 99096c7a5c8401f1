"""Which part of a log may be compacted, and whether it is worth it (KIP-58, KIP-354). Decides only; touches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from logqueue.config import LogConfig
from logqueue.config.properties import LONG_MAX
from logqueue.storage.segment import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionPlan:
    """The state of a compacted log.

    From `dirty_offset` up to `end_offset` (the base of a segment) nothing has been compacted yet and all may be.
    `delay_ms` is how much longer than `max.compaction.lag.ms` the oldest of it has been waiting.
    """

    dirty_offset: int
    end_offset: int
    clean_bytes: int
    dirty_bytes: int
    delay_ms: int
    min_dirty_ratio: float

    @property
    def dirty_ratio(self) -> float:
        """Share of the part that is not compacted yet in what would be compacted."""
        total = self.clean_bytes + self.dirty_bytes
        return self.dirty_bytes / total if total else 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is to be compacted now: dirty enough, or waiting for too long."""
        return self.dirty_bytes > 0 and (self.delay_ms > 0 or self.dirty_ratio > self.min_dirty_ratio)


def plan_compaction(
    segments: Sequence[Segment],
    config: LogConfig,
    *,
    clean_offset: int | None,
    log_start_offset: int,
    log_end_offset: int,
    stable_offset: int,
    now_ms: int,
) -> CompactionPlan:
    """Look at a log's segments. Raises OSError.

    `clean_offset` is how far it was compacted before (None: never; one outside the log is not believed);
    `stable_offset` is below every open transaction, everything hidden and everything that a recovery would doubt.
    """
    dirty_offset = log_start_offset
    if clean_offset is not None and log_start_offset <= clean_offset <= log_end_offset:
        dirty_offset = clean_offset
    end_offset = _end_offset(segments, config, dirty_offset=dirty_offset, stable_offset=stable_offset, now_ms=now_ms)
    clean_bytes = dirty_bytes = 0
    oldest = LONG_MAX
    for segment, following in pairwise(segments):
        if following.base_offset <= dirty_offset:
            clean_bytes += segment.size
            continue
        if segment.base_offset < end_offset:
            dirty_bytes += segment.size
        if config.max_compaction_lag_ms < LONG_MAX:
            first = segment.first_batch_timestamp()
            if first > 0:
                oldest = min(oldest, first)
    return CompactionPlan(
        dirty_offset=dirty_offset,
        end_offset=end_offset,
        clean_bytes=clean_bytes,
        dirty_bytes=dirty_bytes,
        delay_ms=max(now_ms - config.max_compaction_lag_ms - oldest, 0),
        min_dirty_ratio=config.min_cleanable_dirty_ratio,
    )


def _end_offset(
    segments: Sequence[Segment], config: LogConfig, *, dirty_offset: int, stable_offset: int, now_ms: int
) -> int:
    """The base of the first segment that has to be left alone: the active one, an unstable or a too young one."""
    for segment, following in pairwise(segments):
        if following.base_offset > stable_offset:
            return segment.base_offset
        if (
            config.min_compaction_lag_ms > 0
            and following.base_offset > dirty_offset
            and segment.largest_timestamp() > now_ms - config.min_compaction_lag_ms
        ):
            return segment.base_offset
    return segments[-1].base_offset if segments else dirty_offset
