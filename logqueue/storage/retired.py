"""Segments that a log no longer has, on their way off the disk: renamed to `.deleted`, removed later. No batches.

The owner's thread puts segments in; everything that touches the disk is done by `rename` and `remove`, in a thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from logqueue.storage.file_system import FileSystem, remove_gently
from logqueue.storage.names import DELETED, LOG, SEGMENT_SUFFIXES, segment_file
from logqueue.storage.open_files import Readers
from logqueue.storage.segment import Segment


class _Doomed(NamedTuple):
    path: Path
    due_ms: int
    readers: Readers = ()


class RetiredSegments:
    """Waiting for their new names, then for the delay of `file.delete.delay.ms`."""

    def __init__(self, fs: FileSystem, folder: Path) -> None:
        self._fs = fs
        self._folder = folder
        self._lock = Lock()  # held while files are renamed: the owner's thread does not take it for `add_file`
        self._queue = Lock()  # of `_doomed`; held for no longer than a look takes
        self._is_closed = False
        self._knows_leftovers = False  # whether they have been looked for
        self._unnamed: deque[Segment] = deque()
        self._doomed: deque[_Doomed] = deque()

    @property
    def is_closed(self) -> bool:
        """Whether the folder is being given up. Any thread."""
        return self._is_closed

    def add(self, segment: Segment) -> None:
        """A segment was taken out of the log: its files go at the next `rename`."""
        self._unnamed.append(segment)

    def add_file(self, path: Path) -> None:
        """A small file that nobody needs any more: it goes at the next `remove`."""
        self._doom(_Doomed(path, 0))

    @property
    def has_unnamed(self) -> bool:
        return bool(self._unnamed)

    def rename(self, *, now_ms: int, delay_ms: int) -> int:
        """Rename what was added, oldest first, so that a crash leaves a log without a hole. Answers how many.

        Any thread, one at a time. Raises OSError.
        """
        count = 0
        with self.holding():
            while self._unnamed and not self._is_closed:  # `close` waits for one segment, not for all
                self.rename_files(self._unnamed[0], now_ms=now_ms, delay_ms=delay_ms)
                if len(self._unnamed) > 1:
                    # Not every file system keeps renames in order: the next must not come back without this one. If
                    # that cannot be done now, the next call begins with it.
                    self._fs.fsync_dir(self._folder)
                self._unnamed.popleft()
                count += 1
        return count

    @contextmanager
    def holding(self) -> Iterator[bool]:
        """Keep the folder from being given up while files are renamed in it; False if that has happened already."""
        with self._lock:
            yield not self._is_closed

    def close(self) -> None:
        """The folder is being given up: another log may get its name, so nothing is renamed or removed any more.

        Waits for the names of a segment that gets its last ones, or of those that a compaction replaces.
        """
        self._is_closed = True  # before the wait, for a thread to see
        with self._lock:
            self._unnamed.clear()
            with self._queue:
                self._doomed.clear()

    def rename_files(self, segment: Segment, *, now_ms: int, delay_ms: int, log_last: bool = False) -> None:
        """Give a segment's files their last names, `holding` the folder. The .log goes first, since without it the rest
        is removed by a start; with `log_last` it goes last, for a segment that a finished compaction replaces.

        Raises OSError.
        """
        readers = segment.let_go()
        for suffix in reversed(SEGMENT_SUFFIXES) if log_last else SEGMENT_SUFFIXES:
            path = self._folder / segment_file(segment.base_offset, suffix)
            doomed = path.with_name(path.name + DELETED)
            try:
                self._fs.rename(path, doomed)
            except FileNotFoundError:
                continue  # not every segment has a transaction index, and an earlier try may have come this far
            self._doom(_Doomed(doomed, now_ms + delay_ms, readers if suffix == LOG else ()))

    def _doom(self, doomed: _Doomed) -> None:
        with self._queue:
            self._doomed.append(doomed)

    def remove(self, *, now_ms: int, goes_on: Callable[[], bool] = lambda: True) -> int:
        """Remove the files whose time has come, but none from which an answer is still being sent. Answers how many.

        It ends before the next file once `goes_on` says no. Any thread, one at a time. Raises OSError, after the
        others, for a file that cannot be removed: it is tried again at the next call.
        """
        if not self._knows_leftovers:
            self._find_leftovers()
        count = 0
        failure: OSError | None = None
        for _ in range(len(self._doomed)):
            if not goes_on():
                break
            with self._queue:
                if self._is_closed or not self._doomed:
                    break
                doomed = self._doomed[0]
                if doomed.due_ms > now_ms or any(reader() is not None for reader in doomed.readers):
                    self._doomed.rotate(-1)
                    continue
            try:
                remove_gently(self._fs, doomed.path)
            except FileNotFoundError:
                pass  # removed together with its topic
            except OSError as error:
                failure = failure or error
                with self._queue:
                    self._doomed.rotate(-1)
                continue
            with self._queue:
                if self._doomed:
                    self._doomed.popleft()
            count += 1
        if failure is not None:
            raise failure
        return count

    def _find_leftovers(self) -> None:
        """Files that a process before this one did not get to; a start removes only the small ones."""
        try:
            names = self._fs.list_dir(self._folder)
        except FileNotFoundError:
            return  # nothing has been written yet
        with self._queue:
            waiting = tuple(self._doomed)
        known = {doomed.path.name for doomed in waiting}
        for name in names:
            if name.endswith(DELETED) and name not in known:
                self.add_file(self._folder / name)
        self._knows_leftovers = True
