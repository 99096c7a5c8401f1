"""Which segments of a log have to go (KIP-107, Kafka's retention rules). Decides only; touches nothing.

Only whole segments go, the oldest first, without a gap, and none at or above the high watermark. In this order: those
below the log's start, those above `retention.bytes`, those older than `retention.ms`. The last two belong to the policy
`delete`. If that is every segment there is, a new one is begun first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from logqueue.config import LogConfig
from logqueue.storage.segment import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """What is to go: everything below `offset`, `count` segments of `size` bytes. `reason` names the rule."""

    offset: int
    count: int
    size: int
    rolls_first: bool
    reason: str


def find_expired(
    segments: Sequence[Segment],
    config: LogConfig,
    *,
    log_start_offset: int,
    log_end_offset: int,
    high_watermark: int,
    now_ms: int,
) -> Expiry | None:
    """The segments that have to go now; None if there are none. Raises OSError."""

    def ends(index: int) -> int:
        return segments[index + 1].base_offset if index + 1 < len(segments) else log_end_offset

    def leading(first: int, is_expired: Callable[[Segment, int], bool]) -> int:
        """How many segments, from number `first` on, a rule takes."""
        count = first
        while count < len(segments):
            segment, is_last = segments[count], count + 1 == len(segments)
            if (is_last and not segment.size) or ends(count) > high_watermark or not is_expired(segment, ends(count)):
                break
            count += 1
        return count

    reasons = []
    count = leading(0, lambda segment, end: segment is not segments[-1] and end <= log_start_offset)
    if count:
        reasons.append(f"log start offset {log_start_offset}")
    if "delete" in config.cleanup_policy:
        for reason, rule in (
            (f"retention.bytes={config.retention_bytes}", _size_rule(segments[count:], config.retention_bytes)),
            (f"retention.ms={config.retention_ms}", _age_rule(config.retention_ms, now_ms)),
        ):
            before, count = count, leading(count, rule) if rule is not None else count
            if count > before:
                reasons.append(reason)
    if not count:
        return None
    return Expiry(
        offset=ends(count - 1),
        count=count,
        size=sum(segment.size for segment in segments[:count]),
        rolls_first=count == len(segments),
        reason=", ".join(reasons),
    )


def _size_rule(segments: Sequence[Segment], retention_bytes: int) -> Callable[[Segment, int], bool] | None:
    excess = sum(segment.size for segment in segments) - retention_bytes
    if retention_bytes < 0 or excess < 0:
        return None

    def is_too_much(segment: Segment, _: int) -> bool:
        nonlocal excess
        if excess < segment.size:
            return False
        excess -= segment.size
        return True

    return is_too_much


def _age_rule(retention_ms: int, now_ms: int) -> Callable[[Segment, int], bool] | None:
    if retention_ms < 0:
        return None
    return lambda segment, _: now_ms - segment.largest_timestamp() > retention_ms
