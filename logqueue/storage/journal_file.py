"""The bytes of a journal file, and what a start does with them. Knows no broker and no threads.

    magic   8 bytes
    frames  crc u32 (CRC-32C of what follows), size u32 of the pieces, generation u64, count u32, then so many pieces
    piece   length of folder u16, topic id 16 bytes, base offset of the segment i64, position in it i64, size u32,
            the folder's name, the bytes

All frames of a generation follow each other; what is behind the last one, zeros or frames of a generation before, does
not count. The first frame has no pieces: it begins the generation.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from logqueue.records.batch import iterate_batches
from logqueue.records.crc import crc32c
from logqueue.storage.errors import DataFolderError
from logqueue.storage.file_system import FileSystem, write_all
from logqueue.storage.names import LOG, segment_file
from logqueue.storage.open_files import OpenFile
from logqueue.storage.scan import Scan

log = logging.getLogger("logqueue.storage.journal")

FILE_NAMES = ("logqueue-journal-0", "logqueue-journal-1")
MAGIC = b"lqjrnl\x00\x01"
_FRAME = Struct(">IIQI")
_PIECE = Struct(">H16sqqI")
_OFFSET = Struct(">q")
_CRC_SIZE = 4
OVERHEAD = _FRAME.size
PIECE_OVERHEAD = _PIECE.size


class Piece(NamedTuple):
    """Bytes of a segment: which partition folder of which topic, the segment's base offset, the position in it."""

    folder: bytes
    topic_id: UUID
    base_offset: int
    position: int
    data: bytes


def frame_of(generation: int, pieces: Sequence[Piece]) -> bytes:
    """One frame."""
    parts: list[bytes] = []
    for folder, topic_id, base_offset, position, data in pieces:
        parts += (_PIECE.pack(len(folder), topic_id.bytes, base_offset, position, len(data)), folder, data)
    body = b"".join(parts)
    header = _FRAME.pack(0, len(body), generation, len(pieces))
    checked = header[_CRC_SIZE:] + body
    return crc32c(checked).to_bytes(_CRC_SIZE, "big") + checked


def read_pieces(content: bytes) -> Iterator[Piece]:
    """The pieces in a journal file, in the order in which they were written. Raises ValueError if it is none."""
    if not content.startswith(MAGIC):
        if any(found not in (wanted, 0) for found, wanted in zip(content, MAGIC, strict=False)):
            raise ValueError("not a journal of this version")
        return  # it was being made
    position, generation = len(MAGIC), None
    while position + _FRAME.size <= len(content):
        crc, size, frame_generation, count = _FRAME.unpack_from(content, position)
        end = position + _FRAME.size + size
        if generation not in (None, frame_generation) or end > len(content):
            return
        if crc32c(memoryview(content)[position + _CRC_SIZE : end]) != crc:
            return
        generation = frame_generation
        at = position + _FRAME.size
        for _ in range(count):
            name_size, topic_id, base_offset, place, data_size = _PIECE.unpack_from(content, at)
            at += _PIECE.size
            folder = content[at : at + name_size]
            at += name_size
            yield Piece(folder, UUID(bytes=topic_id), base_offset, place, content[at : at + data_size])
            at += data_size
        position = end


def read_journals(fs: FileSystem, folder: Path) -> dict[str, list[Piece]]:
    """What the journals of a data folder hold, by partition folder, in the order of the log. Raises OSError or
    DataFolderError.
    """
    found: dict[str, list[Piece]] = {}
    for name in FILE_NAMES:
        content = fs.read_file(folder / name)
        if content is None:
            continue
        try:
            for piece in read_pieces(content):
                found.setdefault(piece.folder.decode(), []).append(piece)
        except ValueError as error:
            raise DataFolderError(
                f"{folder / name} is {error}: it was written by a newer logqueue, and may hold acknowledged records. "
                "Start that version once and stop it in good order, or restore the data folder from a backup"
            ) from error
    for pieces in found.values():  # the two files take turns: either may hold what goes first
        pieces.sort(key=lambda piece: (piece.base_offset, piece.position))
    return found


def remove_journals(fs: FileSystem, folder: Path) -> None:
    """Remove what there is; durable with the next sync of the folder. Raises OSError."""
    for name in FILE_NAMES:
        try:
            fs.unlink(folder / name)
        except FileNotFoundError:
            continue  # not needed until now, or stopped in good order


def put_back(
    fs: FileSystem, folder: Path, pieces: Sequence[Piece], *, topic_id: UUID, recovery_point: int | None
) -> None:
    """Write the pieces of one partition where they belong; the caller checks what is there then, and syncs it.

    What lies below the recovery point is in its file for certain, and may have been compacted since. If that point is
    lost (None), only what goes on where the whole batches of a file end is written. Raises OSError.
    """
    ours = (piece for piece in pieces if piece.topic_id == topic_id)  # others are of a topic of this name before
    for base_offset, group in groupby(ours, lambda piece: piece.base_offset):
        path = folder / segment_file(base_offset, LOG)
        try:
            file = OpenFile(fs.open(path), fs.close)
        except FileNotFoundError:
            continue  # deleted since, by retention
        if recovery_point is None:
            _go_on(fs, file, base_offset, group)
            continue
        for piece in group:
            if _OFFSET.unpack_from(piece.data)[0] < recovery_point:
                continue
            if piece.position > fs.size(file.fd):
                log.warning("%s was cut before position %d, whose bytes the journal has", path, piece.position)
                break
            write_all(fs, file.fd, piece.data, piece.position)


def _go_on(fs: FileSystem, file: OpenFile, base_offset: int, pieces: Iterable[Piece]) -> None:
    """Write pieces behind the last whole batch, as far as they follow each other there by position and offset."""
    scan = Scan(fs, file, position=0, size=fs.size(file.fd), next_offset=base_offset, verify=True)
    for _ in scan:
        pass
    end, next_offset = scan.end, scan.next_offset
    for piece in pieces:
        for position, header in iterate_batches(piece.data):
            if piece.position + position == end and header.base_offset == next_offset:
                write_all(fs, file.fd, piece.data[position : position + header.size], end)
                end += header.size
                next_offset = header.next_offset
