"""Files that a crash may leave in a partition's folder, and what becomes of each. Knows nothing of batches' content.

.tmp       a small file that was being replaced: removed
.cleaned   output of a compaction that did not finish: removed
.deleted   a segment on its way out: removed
.swap      output of a compaction that is complete: it takes the place of the segments it was made from
"""

from __future__ import annotations

from pathlib import Path

from logqueue.storage.file_system import FileSystem, remove_gently
from logqueue.storage.names import (
    CLEANED,
    DELETED,
    LOG,
    SEGMENT_SUFFIXES,
    SWAP,
    TEMPORARY,
    parse_segment_file,
    segment_file,
)
from logqueue.storage.open_files import OpenFile
from logqueue.storage.scan import Scan

_UNFINISHED = (TEMPORARY, CLEANED, DELETED)


def clear_leftovers(fs: FileSystem, folder: Path) -> dict[str, int]:
    """Bring a folder back to whole segments; answers its files and their sizes. Raises OSError."""
    sizes = fs.list_dir(folder)
    for name in [name for name in sizes if name.endswith(_UNFINISHED)]:
        remove_gently(fs, folder / name)
        del sizes[name]
    swapped = sorted(name for name in sizes if name.endswith(LOG + SWAP))
    for name in swapped:
        _finish_swap(fs, folder, name, sizes)
    for name in [name for name in sizes if name.endswith(SWAP)]:
        fs.unlink(folder / name)  # index files of a swap: they are rebuilt from its log
        del sizes[name]
    if swapped:
        fs.fsync_dir(folder)
    return sizes


def _finish_swap(fs: FileSystem, folder: Path, name: str, sizes: dict[str, int]) -> None:
    target = name.removesuffix(SWAP)
    parsed = parse_segment_file(target)
    if parsed is None:
        return
    base, size = parsed[0], sizes.pop(name)
    scan = Scan(fs, OpenFile(fs.open(folder / name), fs.close), position=0, size=size, next_offset=base)
    for _ in scan:
        pass
    for existing in list(sizes):
        replaced = parse_segment_file(existing)
        if replaced is None or replaced[1] not in SEGMENT_SUFFIXES:
            continue
        if base <= replaced[0] < max(scan.next_offset, base + 1):
            remove_gently(fs, folder / existing)
            del sizes[existing]
    fs.rename(folder / name, folder / segment_file(base, LOG))
    sizes[target] = size
