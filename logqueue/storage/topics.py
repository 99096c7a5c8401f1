"""Which topics there are, with ids, partitions and configuration: the file `logqueue-topics.json`. Knows no logs.

    {"version": 1, "topics": [{"name": "jobs.emails", "id": "<22 characters>", "partitions": 16,
                               "properties": {"retention.ms": "-1"}, "deleting": false}]}

Kafka keeps these in its metadata log; on one node a small file that is replaced atomically says the same. A topic
that is being deleted stays in it, marked, until its folders are out of the way, so that a crash cannot revive a part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from logqueue.config import InvalidConfig, LogConfig
from logqueue.storage.errors import DataFolderError
from logqueue.storage.file_system import FileSystem, write_atomically
from logqueue.storage.ownership import find_owned
from logqueue.storage.partition_metadata import format_id, parse_id

FILE_NAME = "logqueue-topics.json"
VERSION = 1


class Topic(NamedTuple):
    """A topic: `properties` are only what was set on it, `config` is that over the broker's defaults."""

    name: str
    topic_id: UUID
    partitions: int
    properties: Mapping[str, str]
    config: LogConfig
    is_deleting: bool = False


def read_topics(fs: FileSystem, folder: Path, defaults: LogConfig) -> dict[str, Topic]:
    """The topics of a data folder, none if it is new.

    Raises OSError, and DataFolderError if the file makes no sense, or is missing where a partition's folder names its
    topic.
    """
    path = folder / FILE_NAME
    content = fs.read_file(path)
    if content is None:
        owned = find_owned(fs, folder)
        if owned is not None:
            raise DataFolderError(
                f"{path} is missing, but {owned} belongs to a topic; "
                "restore the file from a backup of the data folder, or move the folders of partitions away"
            )
        return {}
    try:
        document = json.loads(content)
        if document["version"] > VERSION:
            raise DataFolderError(f"{path} has version {document['version']}; this logqueue reads up to {VERSION}")
        return {entry["name"]: _parse_topic(entry, defaults) for entry in document["topics"]}
    except (ValueError, KeyError, TypeError, InvalidConfig) as error:
        raise DataFolderError(f"{path} is damaged ({error!r}); restore it from a backup of the data folder") from None


def _parse_topic(entry: dict[str, object], defaults: LogConfig) -> Topic:
    topic_id = parse_id(str(entry["id"]))
    properties, partitions = entry["properties"], entry["partitions"]
    if topic_id is None or not isinstance(properties, dict) or not isinstance(partitions, int):
        raise ValueError(entry)
    return Topic(
        name=str(entry["name"]),
        topic_id=topic_id,
        partitions=partitions,
        properties=properties,
        config=LogConfig.from_properties(properties, base=defaults),
        is_deleting=bool(entry["deleting"]),
    )


def write_topics(fs: FileSystem, folder: Path, topics: Mapping[str, Topic], *, sync_folder: bool = True) -> None:
    """Replace the file; durable at once, or with the next sync of the folder. Raises OSError."""
    entries = [
        {
            "name": topic.name,
            "id": format_id(topic.topic_id),
            "partitions": topic.partitions,
            "properties": dict(topic.properties),
            "deleting": topic.is_deleting,
        }
        for topic in topics.values()
    ]
    content = json.dumps({"version": VERSION, "topics": entries}, indent=1)
    write_atomically(fs, folder / FILE_NAME, content.encode() + b"\n", sync_folder=sync_folder)
