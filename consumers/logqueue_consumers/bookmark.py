"""Bookmarks: how far into the status topic a commit knows, as text behind the offset map. No IO.

Outcomes are written first and committed later, so a killed worker leaves outcomes that its last commit does not know.
Each commit therefore notes, per partition of the status topic, the offset below which every outcome of this worker is
covered. Whoever takes over reads the statuses from there on, and finished work does not run again. A worker that gave
its partitions up in good order leaves no bookmark: there is nothing to read. Layout of the commit metadata:

    <offset map, may be empty>[;b1<base64 of varints: the position in status partition 0, 1, 2, ...>]
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from logqueue_consumers.offset_map import read_varints, write_varint

SEPARATOR = ";"
VERSION = "b1"
MAX_CHARS = 512
"""A status topic of so many partitions that its bookmark would be longer has none."""


def attach(map_text: str, positions: Sequence[int]) -> str:
    """The metadata of a commit with a bookmark (left out where it would be too long)."""
    packed = base64.b64encode(b"".join(write_varint(position) for position in positions)).decode("ascii")
    mark = SEPARATOR + VERSION + packed
    return map_text + mark if len(mark) <= MAX_CHARS else map_text


def split(metadata: str) -> tuple[str, tuple[int, ...] | None]:
    """The offset map's text and the bookmark's positions; None where there is no bookmark that can be read."""
    map_text, separator, mark = metadata.partition(SEPARATOR)
    if not separator or not mark.startswith(VERSION):
        return map_text, None
    try:
        packed = base64.b64decode(mark[len(VERSION) :].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return map_text, None
    if packed and packed[-1] > 0x7F:
        return map_text, None
    return map_text, tuple(read_varints(packed))
