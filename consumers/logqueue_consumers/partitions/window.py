"""The window of one partition: offsets taken but not finished, what may be committed, how much may be taken. No IO.

Two rules bound the offset map before anything is encoded, so that intake costs nothing per record:

- a bitmap over the whole span fits: `span <= SPAN_LIMIT` offsets, or
- run lengths fit whatever finishes next: each unfinished offset can add one gap and one run, at most `RUN_BYTES` bytes.

Offsets that are never delivered (transaction markers, compacted records) count as finished.

A record may be put aside: it was delivered, nobody has it in hand, and it will be read again. Offsets put aside cost
memory and map by the run, so a flood of one tenant may be passed over however long it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import merge as merge_sorted

from logqueue_consumers.commits.offset_map import MAP_LIMIT_BYTES, Run, encode, merge

INTAKE_RATIO = 0.75
"""Share of the map's limit at which a partition takes no new records."""

_OVERHEAD_CHARS = 3 + 4 * 8  # version, kind, base64 of the base's varint, the checksum and padding
_BODY_LIMIT_BYTES = (int(MAP_LIMIT_BYTES * INTAKE_RATIO) - _OVERHEAD_CHARS) * 3 // 4
SPAN_LIMIT = _BODY_LIMIT_BYTES * 8
RUN_BYTES = 5
"""A gap of one unfinished offset (1 byte) and a finished run below 2**28 offsets (at most 4 bytes)."""

ASIDE_RUN_BYTES = 8
"""A gap of up to 2**28 offsets put aside and the finished run behind it (at most 4 bytes each)."""


class PartitionWindow:
    """What one partition's owner knows: `base` is the lowest offset not known to be finished at the start.

    `finished` are the runs read back from the last commit's offset map; they are skipped and stay in later commits.
    """

    __slots__ = ("_aside", "_aside_count", "_high", "_is_sorted", "_restored", "_unfinished", "_waiting", "base")

    def __init__(self, base: int, finished: Iterable[Run] = ()) -> None:
        self.base = base
        self._high = base
        self._restored: deque[Run] = deque(finished)
        self._unfinished: dict[int, None] = {}
        self._waiting: set[int] = set()
        self._aside: list[Run] = []
        """Offsets put aside, as runs that lie apart, ascending."""
        self._aside_count = 0
        self._is_sorted = True
        """Whether the unfinished offsets ascend: not after some were taken again."""

    def take(self, offset: int) -> bool:
        """A record was delivered; true when it must run, false when it is finished already or was taken before."""
        if offset < self._high:
            return False
        self._high = offset + 1
        restored = self._restored
        while restored and restored[0].end <= offset:
            restored.popleft()
        if restored and restored[0].start <= offset:
            return False
        self._unfinished[offset] = None
        return True

    def pass_to(self, offset: int) -> None:
        """There are no records between the last one delivered and `offset`."""
        self._high = max(self._high, offset)

    def put_aside(self, offset: int) -> None:
        """The record taken last is not kept in hand: it is to be delivered again."""
        assert offset == self._high - 1, "only the record taken last can be put aside"
        del self._unfinished[offset]
        self._aside_count += 1
        if self._aside and self._aside[-1].end == offset:
            self._aside[-1] = Run(self._aside[-1].start, offset + 1)
        else:
            self._aside.append(Run(offset, offset + 1))

    def is_aside(self, offset: int) -> bool:
        """Whether the record was put aside and has not been taken again."""
        place = bisect_right(self._aside, (offset, self._high)) - 1
        return place >= 0 and self._aside[place].end > offset

    def take_again(self, offset: int) -> None:
        """A record that was put aside is in hand from now on."""
        place = bisect_right(self._aside, (offset, self._high)) - 1
        start, end = self._aside[place]
        assert start <= offset < end, "only what was put aside is taken again"
        rest = [run for run in (Run(start, offset), Run(offset + 1, end)) if run.start < run.end]
        self._aside[place : place + 1] = rest
        self._aside_count -= 1
        self._unfinished[offset] = None
        self._is_sorted = False

    @property
    def aside_count(self) -> int:
        """Records put aside."""
        return self._aside_count

    def finish(self, offset: int) -> None:
        """The job's outcome is durable."""
        self.finish_many((offset,))

    def finish_many(self, offsets: Collection[int]) -> None:
        """The outcomes of these jobs are durable. (An offset may be unknown where the log itself began anew.)"""
        unfinished = self._unfinished
        for offset in offsets:
            unfinished.pop(offset, None)
        if self._waiting:
            self._waiting.difference_update(offsets)

    def remember(self, offset: int) -> None:
        """This offset is finished though it was not delivered here yet (its job came along from before a rebalance)."""
        if offset < self._high:
            self._unfinished.pop(offset, None)
        elif offset >= self.base:
            self._restored = deque(merge([*self._restored, Run(offset, offset + 1)]))

    def wait(self, offset: int) -> None:
        """This offset will not finish while the process lives (an unknown type in the parked topic)."""
        assert offset in self._unfinished, "only a taken offset can wait"
        self._waiting.add(offset)

    def is_unfinished(self, offset: int) -> bool:
        return offset in self._unfinished

    def is_to_come(self, offset: int) -> bool:
        """Whether a record that was not delivered yet has to run."""
        return offset >= self._high and not any(run.start <= offset < run.end for run in self._restored)

    @property
    def unfinished_count(self) -> int:
        return len(self._unfinished)

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    @property
    def in_hand_count(self) -> int:
        """Unfinished offsets without those that wait."""
        return len(self._unfinished) - len(self._waiting)

    @property
    def is_clear(self) -> bool:
        """Whether all that was delivered is finished."""
        return not self._unfinished and not self._aside

    @property
    def high(self) -> int:
        """Where delivery goes on: one above the highest offset delivered, or behind what is no record."""
        return self._high

    def commit_offset(self) -> int:
        """The lowest offset that is not finished: everything below is."""
        self._sort()
        for offset in self._unfinished:
            return min(offset, self._aside[0].start) if self._aside else offset
        if self._aside:
            return self._aside[0].start
        high = self._high
        restored = self._restored
        while restored and restored[0].end <= high:
            restored.popleft()
        return restored[0].end if restored and restored[0].start <= high else high

    def commit(self, also: Collection[int] = ()) -> tuple[int, str]:
        """The offset and the metadata text to commit, as if the offsets in `also` were finished too."""
        if also:
            return self._with_finished(also).commit()
        offset = self.commit_offset()
        return offset, encode(offset, self.finished_runs())

    def _with_finished(self, offsets: Collection[int]) -> PartitionWindow:
        """A copy in which these offsets are finished."""
        copy = PartitionWindow(self.base, self._restored)
        copy._high = self._high
        self._sort()
        copy._unfinished = self._unfinished.copy()
        copy._aside, copy._aside_count = self._aside.copy(), self._aside_count
        copy.finish_many(offsets)
        beyond = [Run(offset, offset + 1) for offset in offsets if offset >= self._high and offset >= self.base]
        if beyond:
            copy._restored = deque(merge([*copy._restored, *beyond]))
        return copy

    def finished_runs(self) -> list[Run]:
        """Finished offsets above the commit offset, ascending and apart."""
        runs: list[Run] = []
        position = self.commit_offset()
        for start, end in self._unfinished_runs():
            if start > position:
                runs.append(Run(position, start))
            position = end
        if position < self._high:
            runs.append(Run(position, self._high))
            position = self._high
        for start, end in self._restored:
            if end <= position:
                continue
            if runs and start <= runs[-1].end:
                runs[-1] = Run(runs[-1].start, end)
            else:
                runs.append(Run(max(start, position), end))
        return runs

    def _unfinished_runs(self) -> Iterator[tuple[int, int]]:
        self._sort()
        runs = _runs(list(self._unfinished))
        return merge_sorted(runs, self._aside) if self._aside else runs

    def _sort(self) -> None:
        if not self._is_sorted:
            self._unfinished = dict.fromkeys(sorted(self._unfinished))
            self._is_sorted = True

    def room(self, limit: int) -> int:
        """How many more records (at most `limit` unfinished at once) may be taken; 0 stops intake."""
        unfinished = len(self._unfinished)
        want = limit - (unfinished - len(self._waiting))
        if want <= 0:
            return 0
        by_span = SPAN_LIMIT - (self._high - self.commit_offset())
        if by_span >= want:
            return want
        by_runs = (_BODY_LIMIT_BYTES - len(self._aside) * ASIDE_RUN_BYTES) // RUN_BYTES - unfinished
        if by_runs <= 0 and self._waiting:
            by_runs = self._room_beside_waiting()
        return max(0, min(want, max(by_span, by_runs)))

    def _room_beside_waiting(self) -> int:
        """Waiting offsets stay as they are, so their present encoding is what they cost."""
        encoded = len(self.commit()[1]) * 3 // 4
        running = len(self._unfinished) - len(self._waiting)
        return (_BODY_LIMIT_BYTES - encoded) // RUN_BYTES - running


def _runs(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending offsets as runs (start, end): few even where there are thousands, so each end is searched for."""
    count = len(offsets)
    first = 0
    while first < count:
        start = offsets[first]
        step, known, beyond = 1, first, count
        # The offset at `known` belongs to the run, the one at `beyond` does not.
        while known + 1 < beyond:
            probe = min(known + step, beyond - 1)
            if offsets[probe] - start == probe - first:
                known, step = probe, step * 2
            else:
                beyond, step = probe, 1
        yield start, start + known - first + 1
        first = known + 1
