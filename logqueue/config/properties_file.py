"""Java's properties format, as Kafka's server.properties is written in: text to names, values and line numbers.

`name=value`, `name: value` or `name value`; `#` and `!` begin comments; a backslash at the end of a line continues it;
backslash escapes are t, n, r, f, uXXXX, and any other character for itself (java.util.Properties.load).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_BLANKS = " \t\f"


class Line(NamedTuple):
    """One setting, and the line that it begins at (1-based)."""

    number: int
    name: str
    value: str


def parse_properties(text: str) -> list[Line]:
    """The settings in order; a name may come more than once. Raises ValueError for a broken \\u escape."""
    return [Line(number, *_split(line)) for number, line in _logical_lines(text)]


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    started, held = 0, ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.lstrip(_BLANKS)
        if not held and (not line or line[0] in "#!"):
            continue
        started = started or number
        if (len(line) - len(line.rstrip("\\"))) % 2:
            held += line[:-1]
            continue
        yield started, held + line
        started, held = 0, ""
    if held:
        yield started, held


def _split(line: str) -> tuple[str, str]:
    end = 0
    while end < len(line) and line[end] not in "=:" + _BLANKS:
        end += 2 if line[end] == "\\" else 1
    rest = line[end:].lstrip(_BLANKS)
    if rest[:1] in ("=", ":") and rest:
        rest = rest[1:].lstrip(_BLANKS)
    return _unescape(line[:end]), _unescape(rest)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    out, position = [], 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\\" and position < len(text):
            character = text[position]
            position += 1
            if character == "u":
                digits = text[position : position + 4]
                if len(digits) < 4:
                    raise ValueError(f"\\u{digits} is not a character")
                character = chr(int(digits, 16))
                position += 4
            else:
                character = _ESCAPES.get(character, character)
        out.append(character)
    return "".join(out)
