"""Files that a crash may leave in a partition's folder, and what becomes of each. Knows nothing of batches' content.

.tmp       a small file that was being replaced: removed
.cleaned   output of a compaction that did not finish: removed
.deleted   a segment on its way out: removed, a large one later (`logqueue.storage.retired`)
.swap      output of a compaction that is complete: it takes the place of the segments it was made from

How a compaction takes that place (`logqueue.storage.compaction.cleaning`), and so what can be found:

    1  the new files are synced as `.cleaned`, then become `.swap`, the .log last: without it the others count nothing
    2  old segments become `.deleted`, at last the one of the same base offset, and of that the .log last
    3  the new files lose their ending, the .log last

So while there is a `.log.swap`, a .log of its own name is an old one, and its indexes are old too; without one, index
files of that name are new. Between the steps the folder is synced.
"""

from __future__ import annotations

from pathlib import Path

from logqueue.storage.file_system import CHUNK_BYTES, FileSystem, remove_gently
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
_INDEXES = tuple(suffix for suffix in SEGMENT_SUFFIXES if suffix != LOG)


def clear_leftovers(fs: FileSystem, folder: Path) -> dict[str, int]:
    """Bring a folder back to whole segments; answers its files and their sizes. Raises OSError."""
    sizes = fs.list_dir(folder)
    for name in [name for name in sizes if name.endswith(_UNFINISHED)]:
        size = sizes.pop(name)
        if not (name.endswith(DELETED) and size > CHUNK_BYTES):  # those go while the log is in use already
            remove_gently(fs, folder / name)
    swapped = sorted(name for name in sizes if name.endswith(LOG + SWAP))
    for name in swapped:
        _finish_swap(fs, folder, name, sizes)
    for name in [name for name in sizes if name.endswith(SWAP)]:
        fs.unlink(folder / name)  # indexes whose log never became .swap
        del sizes[name]
    if swapped:
        fs.fsync_dir(folder)
    return sizes


def _finish_swap(fs: FileSystem, folder: Path, name: str, sizes: dict[str, int]) -> None:
    parsed = parse_segment_file(name.removesuffix(SWAP))
    if parsed is None:
        return
    base = parsed[0]
    end = _end_of(fs, folder / name, size=sizes[name], base_offset=base)
    for replaced in sorted({p[0] for p in map(parse_segment_file, sizes) if p is not None and base < p[0] < end}):
        for suffix in SEGMENT_SUFFIXES:
            _remove(fs, folder, segment_file(replaced, suffix), sizes)
    if segment_file(base, LOG) in sizes:
        for suffix in reversed(SEGMENT_SUFFIXES):
            _remove(fs, folder, segment_file(base, suffix), sizes)
        fs.fsync_dir(folder)
    for suffix in (*_INDEXES, LOG):
        target = segment_file(base, suffix)
        if target + SWAP in sizes:
            fs.rename(folder / (target + SWAP), folder / target)
            sizes[target] = sizes.pop(target + SWAP)


def _end_of(fs: FileSystem, path: Path, *, size: int, base_offset: int) -> int:
    scan = Scan(fs, OpenFile(fs.open(path), fs.close), position=0, size=size, next_offset=base_offset)
    for _ in scan:
        pass
    return scan.next_offset


def _remove(fs: FileSystem, folder: Path, name: str, sizes: dict[str, int]) -> None:
    if name in sizes:
        remove_gently(fs, folder / name)
        del sizes[name]
