"""Kafka's text checkpoints: `version`, number of lines, lines. Knows what no line means beyond its numbers.

0
2
jobs.emails 0 1742
jobs.emails 1 1690
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from logqueue.ids import TopicPartition
from logqueue.storage.file_system import FileSystem, write_atomically

VERSION = "0"


def read_lines(fs: FileSystem, path: Path) -> list[list[str]] | None:
    """The fields of each line; None if the file is missing or not whole, which callers treat alike."""
    content = fs.read_file(path)
    if content is None:
        return None
    lines = content.decode("utf-8", errors="replace").splitlines()
    if len(lines) < 2 or lines[0] != VERSION or not lines[1].isdigit() or len(lines) != int(lines[1]) + 2:
        return None
    return [line.split(" ") for line in lines[2:]]


def format_lines(lines: Iterable[str]) -> bytes:
    """The text of a checkpoint."""
    body = list(lines)
    return "".join(f"{line}\n" for line in (VERSION, str(len(body)), *body)).encode()


def read_offsets(fs: FileSystem, path: Path) -> dict[TopicPartition, int] | None:
    """A checkpoint of `topic partition offset` lines; None if it is missing or damaged."""
    lines = read_lines(fs, path)
    if lines is None:
        return None
    try:
        return {TopicPartition(topic, int(partition)): int(offset) for topic, partition, offset in lines}
    except ValueError:
        return None


def write_offsets(
    fs: FileSystem, path: Path, offsets: Mapping[TopicPartition, int], *, sync_folder: bool = True
) -> None:
    """Replace a checkpoint of offsets; durable at once, or with the next sync of the folder. Raises OSError."""
    lines = (f"{partition.topic} {partition.partition} {offset}" for partition, offset in sorted(offsets.items()))
    write_atomically(fs, path, format_lines(lines), sync_folder=sync_folder)
