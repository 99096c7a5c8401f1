"""What a command prints: JSON, plain aligned columns, or tables when a person is looking. Knows no command."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

_ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: the key in each item and the heading; `right` aligns numbers."""

    key: str
    heading: str
    right: bool = False


class Output:
    """Prints to standard output; `is_json` decides for machines, a TTY decides for tables and colour."""

    def __init__(self, *, is_json: bool, stream: TextIO | None = None) -> None:
        self.is_json = is_json
        self._stream = stream or sys.stdout

    @property
    def stream(self) -> TextIO:
        """Where it prints."""
        return self._stream

    @property
    def is_screen(self) -> bool:
        return not self.is_json and self._stream.isatty()

    def line(self, text: str = "") -> None:
        """A sentence for people; nothing in JSON mode."""
        if not self.is_json:
            print(text, file=self._stream, flush=True)

    def warn(self, text: str) -> None:
        """A warning, on standard error: `{"warning": ...}` or a line."""
        told = json.dumps({"warning": text}) if self.is_json else f"warning: {text}"
        print(told, file=sys.stderr, flush=True)

    def document(self, value: object) -> None:
        """One JSON document; call only in JSON mode or where JSON is the answer itself."""
        self._print_json(value, indent=2 if self._stream.isatty() else None)

    def event(self, value: Mapping[str, Any], text: str) -> None:
        """One item of a stream: a JSON line, or its text."""
        if self.is_json:
            self._print_json(value)
        else:
            print(text, file=self._stream, flush=True)

    def items(
        self,
        items: Sequence[Mapping[str, Any]],
        columns: Sequence[Column],
        *,
        empty: str,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Many things of one kind: `{"items": [...], **extra}` or a table; `empty` is said when there is none."""
        if self.is_json:
            self.document({"items": list(items), **(extra or {})})
        elif not items:
            self.line(empty)
        elif self.is_screen:
            self._rich_table(items, columns)
        else:
            self._plain_table(items, columns)

    def record(self, value: Mapping[str, Any]) -> None:
        """One thing with named parts, one a line; parts that are absent (None) are left out."""
        if self.is_json:
            self.document(value)
            return
        shown = {key: text_of(part) for key, part in value.items() if part is not None}
        width = max(map(len, shown), default=0)
        for key, text in shown.items():
            self.line(f"{key:<{width}}  " + text.replace("\n", "\n" + " " * (width + 2)))

    def _print_json(self, value: object, *, indent: int | None = None) -> None:
        try:
            print(json.dumps(value, indent=indent, default=str, ensure_ascii=False), file=self._stream, flush=True)
        except UnicodeEncodeError:  # a lone surrogate, or a terminal that does not take all of Unicode
            print(json.dumps(value, indent=indent, default=str), file=self._stream, flush=True)

    def _plain_table(self, items: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
        rows = [[column.heading for column in columns]]
        rows += [[text_of(item.get(column.key)) for column in columns] for item in items]
        widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
        for row in rows:
            cells = (
                f"{cell:>{width}}" if column.right else f"{cell:<{width}}"
                for cell, width, column in zip(row, widths, columns, strict=True)
            )
            self.line("  ".join(cells).rstrip())

    def _rich_table(self, items: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column.heading, justify="right" if column.right else "left", overflow="fold")
        for item in items:
            table.add_row(*(Text(text_of(item.get(c.key)), style=_style(c.key, item.get(c.key))) for c in columns))
        Console(file=self._stream).print(table)


def text_of(value: object) -> str:
    """A value as people read it: '-' for absent, thousands untouched, JSON for structures; surrogates are escaped."""
    return _text_of(value).encode("utf-8", "backslashreplace").decode()


def _text_of(value: object) -> str:
    match value:
        case None:
            return _ABSENT
        case str():
            return value
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3f}".rstrip("0").rstrip(".")
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case Mapping() | list() | tuple():
            return json.dumps(value, default=str, ensure_ascii=False)
        case _:
            return str(value)


_STATE_STYLES = {
    "succeeded": "green",
    "dead": "red",
    "expired": "red",
    "cancelled": "yellow",
    "parked": "yellow",
    "blocked": "magenta",
    "retrying": "yellow",
    "running": "cyan",
}


def _style(key: str, value: object) -> str:
    return _STATE_STYLES.get(value, "") if key == "state" and isinstance(value, str) else ""
