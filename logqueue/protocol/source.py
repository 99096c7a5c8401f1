"""Builds Python source of codec functions: indentation, names, runs of fixed-width values. Knows no message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from struct import error as struct_error
from typing import Any

from logqueue.protocol.packing import packing
from logqueue.protocol.wire import MalformedFrame, read_uvarint, skip_tags, uvarint


class Source:
    """Source text of one module of functions, with the objects its names stand for."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {
            "MalformedFrame": MalformedFrame,
            "StructError": struct_error,
            "new": object.__new__,
            "read_uvarint": read_uvarint,
            "skip_tags": skip_tags,
            "uvarint": uvarint,
        }
        self._lines: list[str] = []
        self._depth = 0
        self._count = 0

    def line(self, text: str) -> None:
        """Add one line at the present depth."""
        self._lines.append("    " * self._depth + text)

    @contextmanager
    def block(self, opening: str) -> Iterator[None]:
        """Add a line that opens a block, and indent what follows."""
        self.line(opening)
        self._depth += 1
        yield
        self._depth -= 1

    def fresh(self, prefix: str) -> str:
        """A variable name that nothing else uses."""
        self._count += 1
        return f"{prefix}{self._count}"

    def name_of(self, prefix: str, value: Any) -> str:
        """A global name bound to the value."""
        for name, known in self.names.items():
            if known is value:
                return name
        name = self.fresh(prefix)
        self.names[name] = value
        return name

    def unpacker(self, format_: str) -> str:
        """Name of the bound `unpack_from` of a format."""
        name = "U_" + format_.replace("?", "o")
        self.names[name] = packing(format_).unpack_from
        return name

    def packer(self, format_: str) -> str:
        """Name of the bound `pack` of a format."""
        name = "P_" + format_.replace("?", "o")
        self.names[name] = packing(format_).pack
        return name

    def text(self) -> str:
        """The source so far."""
        return "\n".join(self._lines) + "\n"

    def compile(self, function: str, label: str) -> Callable[..., Any]:
        """Run the source and hand back one of its functions; its text stays with it as `source`."""
        text = self.text()
        exec(compile(text, f"<{label}>", "exec"), self.names)  # noqa: S102 - built from our own schema table
        made: Callable[..., Any] = self.names[function]
        made.__dict__["source"] = text
        return made
