"""The producer snapshots of one log: when another is due, and which may go. Knows not what is in them."""

from __future__ import annotations

from pathlib import Path

from logqueue.storage.durability import Durability
from logqueue.storage.names import SNAPSHOT, segment_file
from logqueue.storage.producer_snapshot import snapshots_to_keep
from logqueue.storage.retired import RetiredSegments

STEP_BYTES = 1024 * 1024
"""Growth of the last segment from which on a checkpoint stores the producers again."""


class Snapshots:
    """Written by the log's owner; the next flush makes them durable, the next purge removes what may go."""

    def __init__(self, folder: Path, durability: Durability, retired: RetiredSegments, offsets: list[int]) -> None:
        self._folder = folder
        self._durability = durability
        self._retired = retired
        self._offsets = offsets
        self._place = durability.end[1:]

    @property
    def is_due(self) -> bool:
        """Whether the log has grown so much since the last one that a recovery would gain from another."""
        _, segment, size = self._durability.end
        last_segment, last_size = self._place
        return segment is not None and (segment is not last_segment or size - last_size >= STEP_BYTES)

    def write(self, content: bytes, *, bases: list[int]) -> None:
        """Store the producers as of the log's end; `bases` are those of its segments. Raises OSError."""
        offset = self._durability.end[0]
        if self._offsets[-1:] != [offset]:
            self._durability.write_file(self._folder / segment_file(offset, SNAPSHOT), content)
            self._offsets.append(offset)
        kept = snapshots_to_keep(self._offsets, bases, recovery_point=self._durability.recovery_point)
        for dropped in set(self._offsets) - set(kept):
            self._retired.add_file(self._folder / segment_file(dropped, SNAPSHOT))
        self._offsets = kept
        self._place = self._durability.end[1:]
