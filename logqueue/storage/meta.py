"""`meta.properties`: which cluster and node a data folder belongs to, and the version of its format.

version=1                 Kafka's
node.id=1
cluster.id=<22 characters>
directory.id=<22 characters>
logqueue.format=1         ours: of everything in the folder that is not Kafka's
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from logqueue.storage.errors import DataFolderError
from logqueue.storage.file_system import FileSystem, write_atomically
from logqueue.storage.partition_metadata import format_id

FILE_NAME = "meta.properties"
KAFKA_VERSION = 1
FORMAT = 1


class Meta(NamedTuple):
    """The identity of a data folder."""

    node_id: int
    cluster_id: str
    directory_id: str


def read_meta(fs: FileSystem, folder: Path) -> Meta | None:
    """The identity of a folder; None if it has none yet. Raises DataFolderError for a format we do not know."""
    path = folder / FILE_NAME
    content = fs.read_file(path)
    if content is None:
        return None
    lines = (line.strip() for line in content.decode(errors="replace").splitlines())
    fields = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    try:
        kafka_version, format_version = int(fields["version"]), int(fields.get("logqueue.format", "0"))
        meta = Meta(
            node_id=int(fields["node.id"]), cluster_id=fields["cluster.id"], directory_id=fields["directory.id"]
        )
    except (KeyError, ValueError):
        raise DataFolderError(f"{path} is damaged; restore it from a backup of the data folder") from None
    if format_version > FORMAT or kafka_version > KAFKA_VERSION:
        raise DataFolderError(
            f"The data folder {folder} has format {format_version} (Kafka {kafka_version}); this logqueue knows up to "
            f"{FORMAT} ({KAFKA_VERSION}). Use the newer logqueue that wrote it, or another --data-dir"
        )
    if format_version < FORMAT:
        raise DataFolderError(
            f"The data folder {folder} was not made by logqueue (no logqueue.format in {path.name}); "
            "use another --data-dir"
        )
    return meta


def write_meta(fs: FileSystem, folder: Path, *, node_id: int, cluster: UUID, directory: UUID) -> Meta:
    """Give a new folder its identity, durably. Raises OSError."""
    meta = Meta(node_id=node_id, cluster_id=format_id(cluster), directory_id=format_id(directory))
    text = (
        f"version={KAFKA_VERSION}\nnode.id={node_id}\ncluster.id={meta.cluster_id}\n"
        f"directory.id={meta.directory_id}\nlogqueue.format={FORMAT}\n"
    )
    write_atomically(fs, folder / FILE_NAME, text.encode())
    return meta
