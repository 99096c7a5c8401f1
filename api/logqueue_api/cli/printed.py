"""Standard output while handlers run in a command: what they print goes to standard error, the command's words stay.

For a program that reads these: a line that a handler has not ended would be one with the summary behind it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, Final, TextIO, cast

_OUT: Final = 1
_ERROR: Final = 2


@contextmanager
def own_output() -> Iterator[TextIO]:
    """What standard output was, as a stream; descriptor 1, which child processes share, is standard error meanwhile."""
    sys.stdout.flush()
    with os.fdopen(os.dup(_OUT), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors) as own:
        os.dup2(_ERROR, _OUT)
        try:
            yield own
        finally:
            sys.stdout.flush()
            os.dup2(own.fileno(), _OUT)


@contextmanager
def ended_lines() -> Iterator[None]:
    """What is printed goes to `sys.stderr`; a last line that is not ended is ended afterwards."""
    lines = _Lines(sys.stderr)
    with redirect_stdout(cast("TextIO", lines)):
        try:
            yield
        finally:
            lines.end()


class _Lines:
    """A stream that knows whether its last line is ended; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_open = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write it."""
        if text:
            self._is_open = not text.endswith("\n")
        return self._stream.write(text)

    def end(self) -> None:
        """End the last line."""
        if self._is_open:
            self.write("\n")
        self._stream.flush()
