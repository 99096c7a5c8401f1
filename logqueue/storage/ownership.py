"""Whose a partition's folder is: `partition.metadata` in it names its topic. What no topic owns is never written to.

Folders without an owner come from elsewhere: a backup whose list of topics is missing or older, or a copy made by hand.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from logqueue.storage.errors import DataFolderError, StorageError
from logqueue.storage.file_system import FileSystem, write_atomically
from logqueue.storage.names import LOG, PARTITION_METADATA, SWAP, parse_folder
from logqueue.storage.partition_metadata import format_id, format_metadata, parse_metadata


def check_owner(fs: FileSystem, folder: Path, *, topic: str, topic_id: UUID) -> None:
    """A folder belongs to the topic id in it; a torn `partition.metadata` of a first append is written again.

    Raises DataFolderError if it is another topic's, or OSError.
    """
    path = folder / PARTITION_METADATA
    content = fs.read_file(path)
    owner = None if content is None else parse_metadata(content)
    if owner is None:
        write_atomically(fs, path, format_metadata(topic_id))
    elif owner != topic_id:
        raise DataFolderError(
            f"{folder} holds topic id {format_id(owner)}, but {topic} is {format_id(topic_id)}; "
            "move the folder away, or restore the data folder from one backup"
        )


def check_vacant(fs: FileSystem, folder: Path) -> None:
    """Raise StorageError unless a log that has written nothing yet may have this folder: no other log is in it."""
    try:
        names = fs.list_dir(folder)
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise StorageError(f"{folder} is in the way of a partition, and not a folder; move it away") from error
    except OSError as error:
        raise StorageError(f"{folder} cannot be looked into ({error.strerror}); nothing was written") from error
    if any(name.endswith((LOG, LOG + SWAP)) for name in names):
        raise StorageError(
            f"{folder} holds a log of a topic that is not known here; "
            "move the folder away, or restore the data folder from one backup"
        )


def find_owned(fs: FileSystem, data_folder: Path) -> Path | None:
    """The folder of a partition that names a topic; None if there is none. Raises OSError."""
    try:
        sizes = fs.list_dir(data_folder)
    except FileNotFoundError:
        return None
    for name, size in sizes.items():
        folder = data_folder / name
        if size < 0 and parse_folder(name) is not None and fs.read_file(folder / PARTITION_METADATA) is not None:
            return folder
    return None
