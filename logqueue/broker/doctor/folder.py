"""A data folder as it lies on the disk: its lock, its small files, its partitions, and what a crash has left."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from logqueue.broker.doctor.finding import Finding, ok, problem, warning
from logqueue.config import LogConfig
from logqueue.errors import LogqueueError
from logqueue.ids import TopicPartition
from logqueue.storage.directory_lock import FILE_NAME as LOCK
from logqueue.storage.file_system import FileSystem, RealFileSystem
from logqueue.storage.log_directory import CLEAN_SHUTDOWN
from logqueue.storage.meta import read_meta
from logqueue.storage.names import (
    CLEANED,
    DELETED,
    SWAP,
    TEMPORARY,
    TIME_INDEX,
    is_deleted_folder,
    parse_folder,
    parse_segment_file,
)
from logqueue.storage.settings import read_settings
from logqueue.storage.topics import Topic, read_topics
from logqueue.storage.uncleanable import read_uncleanable

FUTURE_SECONDS = 3600  # Kafka's message.timestamp.after.max.ms
SHOWN = 5  # names in one finding
_TIME_ENTRY_BYTES = 12
_UNFINISHED = (DELETED, CLEANED, SWAP, TEMPORARY)


def holder_of(folder: Path) -> str | None:
    """The process that has the folder open; None if none has. Raises OSError."""
    try:
        fd = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(fd)
    return None


def topics_of(folder: Path) -> dict[str, Topic]:
    """The topics stored in a folder. Raises DataFolderError or OSError."""
    return read_topics(RealFileSystem(), folder, LogConfig())


def look_at_folder(folder: Path, *, is_running: bool) -> Iterator[Finding]:
    """Everything about the files of a folder. Raises OSError."""
    if not os.access(folder, os.W_OK | os.X_OK):
        yield problem("data folder", f"{folder} is not writable", "change its owner or mode")
    fs = RealFileSystem()
    try:
        meta = read_meta(fs, folder)
        topics = topics_of(folder)
        read_settings(fs, folder)
    except LogqueueError as error:
        yield problem("data folder", str(error))
        return
    if meta is None:
        yield ok("data folder", f"{folder} is new")
        return
    count = sum(topic.partitions for topic in topics.values())
    yield ok("data folder", f"{folder}: cluster {meta.cluster_id}, {len(topics)} topics, {count} partitions")
    if not is_running:
        yield _shutdown(folder)
    yield from _leftovers(folder, topics, is_running=is_running)
    yield _compaction(fs, folder)
    yield from _timestamps(folder)


def _shutdown(folder: Path) -> Finding:
    if (folder / CLEAN_SHUTDOWN).exists():
        return ok("last stop", "clean")
    hint = "nothing to do: the next start checks what is new since the last checkpoint"
    return warning("last stop", "not clean (crash or kill)", hint)


def _leftovers(folder: Path, topics: dict[str, Topic], *, is_running: bool) -> Iterator[Finding]:
    known = {str(TopicPartition(topic.name, index)) for topic in topics.values() for index in range(topic.partitions)}
    strays, deleted, unfinished = [], 0, 0
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        if not entry.is_dir(follow_symlinks=False):
            continue
        if is_deleted_folder(entry.name):
            deleted += 1
        elif entry.name in known:
            unfinished += sum(each.name.endswith(_UNFINISHED) for each in os.scandir(entry.path))
        elif parse_folder(entry.name) is not None:
            strays.append(entry.name)
    if strays:
        hint = "move them out of the data folder: no topic owns them"
        yield warning("leftovers", f"folders of no topic: {_some(strays)}", hint)
    if (deleted or unfinished) and not is_running:
        text = f"{deleted} deleted partition(s) and {unfinished} unfinished file(s) still take space"
        yield warning("leftovers", text, "the next start removes them")
    elif not strays:
        yield ok("leftovers", "none")


def _compaction(fs: FileSystem, folder: Path) -> Finding:
    reasons = read_uncleanable(fs, folder)
    if not reasons:
        return ok("compaction", "no log was given up")
    partition, reason = next(iter(reasons.items()))
    text = f"given up, as they are damaged: {_some(sorted(reasons))} ({partition}: {reason})"
    return problem("compaction", text, "read what can be read into a new topic; a restart tries once more")


def _timestamps(folder: Path) -> Iterator[Finding]:
    """Records from the future keep their segments from ever being too old."""
    limit_ms = (time.time() + FUTURE_SECONDS) * 1000
    ahead = sorted(
        entry.name
        for entry in os.scandir(folder)
        if parse_folder(entry.name) is not None and entry.is_dir() and _latest_ms(Path(entry.path)) > limit_ms
    )
    if ahead:
        hint = "retention.ms keeps them until then; set message.timestamp.type=LogAppendTime where clients' clocks lie"
        yield warning("timestamps", f"records more than an hour in the future: {_some(ahead)}", hint)
    else:
        yield ok("timestamps", "none in the future")


def _latest_ms(partition: Path) -> int:
    """The largest time that a time index of the partition ends with; -1 if there is none."""
    latest = -1
    for path in partition.iterdir():
        parsed = parse_segment_file(path.name)
        if parsed is None or parsed[1] != TIME_INDEX:
            continue
        content = path.read_bytes()
        last = content[: len(content) // _TIME_ENTRY_BYTES * _TIME_ENTRY_BYTES][-_TIME_ENTRY_BYTES:]
        if last:
            latest = max(latest, int.from_bytes(last[:8], "big", signed=True))
    return latest


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
