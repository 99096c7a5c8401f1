"""One line on the terminal that says how far long work has come; nothing where nobody looks. Knows no command."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self, TextIO


class ProgressLine:
    """`with ProgressLine("replay") as line: line.show({"replayed": 12, "matched": 40})`."""

    def __init__(self, what: str, *, stream: TextIO | None = None) -> None:
        self._what = what
        self._stream = stream if stream is not None else sys.stderr
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._width:
            print("\r" + " " * self._width + "\r", end="", file=self._stream, flush=True)

    def show(self, counts: Mapping[str, int]) -> None:
        """These are the counts now."""
        if not self._stream.isatty():
            return
        text = f"{self._what}: " + ", ".join(f"{number} {name}" for name, number in counts.items())
        print("\r" + text.ljust(self._width), end="", file=self._stream, flush=True)
        self._width = max(self._width, len(text))
