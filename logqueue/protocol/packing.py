"""Formats of the struct module, and the packers made from them once. Knows no message and no source."""

from __future__ import annotations

from struct import Struct as Packing
from typing import Any

SHAPE_MAX = 16  # numbers in an array for which a packer is kept
SHAPES_MAX = 256  # packers kept per place
ONE_BYTE_MAX = 127  # the largest varint of one byte
ONE_BYTE = tuple(bytes((value,)) for value in range(ONE_BYTE_MAX + 1))

_PACKINGS: dict[str, Packing] = {}


def packing(format_: str) -> Packing:
    """The shared `struct.Struct` of a big-endian format."""
    found = _PACKINGS.get(format_)
    if found is None:
        found = _PACKINGS[format_] = Packing(">" + format_)
    return found


class ShapePackers(dict[tuple[int, ...], Any]):
    """`pack` functions of a format with array lengths in it, by those lengths; None where a length is too large."""

    def __init__(self, template: str) -> None:
        super().__init__()
        self._template = template

    def __missing__(self, shape: tuple[int, ...]) -> Any:
        if max(shape) > SHAPE_MAX:
            return None
        made = Packing(">" + self._template % shape).pack
        if len(self) < SHAPES_MAX:
            self[shape] = made
        return made
