"""The output of one child: a bounded, rotated file, and its last lines in memory. Knows no process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from io import FileIO
from pathlib import Path

LARGEST_LOG_BYTES = 5 << 20
KEPT_OLD_LOGS = 2
LONGEST_LINE_BYTES = 8192
KEPT_LINES = 20


class ChildLog:
    """Takes bytes as they come; writes them to `path` (None: nowhere) and calls `on_line` for each whole line.

    When the file passes LARGEST_LOG_BYTES it becomes `<path>.1` (and that one `.2`), so a child's logs never hold
    more than three times that. A line longer than LONGEST_LINE_BYTES is told in pieces.
    """

    def __init__(
        self, path: Path | None, *, on_line: Callable[[str], None], largest_bytes: int = LARGEST_LOG_BYTES
    ) -> None:
        self.path = path
        self.last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._on_line = on_line
        self._largest_bytes = largest_bytes
        self._rest = b""
        self._file: FileIO | None = None
        self._size = 0
        self._write_error = ""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open(path)

    def feed(self, data: bytes) -> None:
        """Take the next output of the child."""
        self._store(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._tell(line)
        while len(self._rest) > LONGEST_LINE_BYTES:
            self._tell(self._rest[:LONGEST_LINE_BYTES])
            self._rest = self._rest[LONGEST_LINE_BYTES:]

    def end_line(self) -> None:
        """The child is gone: what it wrote without a line's end is a line."""
        if self._rest:
            self._tell(self._rest)
            self._rest = b""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _tell(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            self.last_lines.append(text)
            self._on_line(text)

    def _store(self, data: bytes) -> None:
        """A full disk must not end the supervisor: the failure is told once as a line, and output is still read."""
        if self.path is None:
            return
        try:
            file = self._file if self._file is not None else self._open(self.path)
            if self._size + len(data) > self._largest_bytes and self._size:
                file = self._rotate(file, self.path)
            self._size += file.write(data)
            self._write_error = ""
        except OSError as error:
            if not self._write_error:
                self._write_error = str(error)
                self._on_line(f"ERROR the log {self.path} cannot be written: {error.strerror}")

    def _open(self, path: Path) -> FileIO:
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()
        return self._file

    def _rotate(self, file: FileIO, path: Path) -> FileIO:
        """The new file; where it cannot be made there is none until the next output."""
        self._file = None
        file.close()
        for number in range(KEPT_OLD_LOGS, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            newer = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
            if newer.exists():
                newer.replace(older)
        return self._open(path)
