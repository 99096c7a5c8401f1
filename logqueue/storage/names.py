"""How files and folders of a log are called. Touches none of them."""

from __future__ import annotations

import re
from uuid import UUID

from logqueue.ids import TopicPartition

LOG = ".log"
OFFSET_INDEX = ".index"
TIME_INDEX = ".timeindex"
TXN_INDEX = ".txnindex"
SNAPSHOT = ".snapshot"
SEGMENT_SUFFIXES = (LOG, OFFSET_INDEX, TIME_INDEX, TXN_INDEX)
DELETED = ".deleted"
CLEANED = ".cleaned"
SWAP = ".swap"
TEMPORARY = ".tmp"
DELETED_FOLDER = "-delete"
LEADER_EPOCHS = "leader-epoch-checkpoint"
PARTITION_METADATA = "partition.metadata"

MAX_TOPIC_NAME = 249
_MAX_FILE_NAME = 255

_SEGMENT_FILE = re.compile(r"(\d{20})(\.log|\.index|\.timeindex|\.txnindex|\.snapshot)")
_FOLDER = re.compile(r"(.+)-(\d{1,10})")
_DELETED_FOLDER = re.compile(r".+\.[0-9a-f]{32}" + DELETED_FOLDER)
_TOPIC = re.compile(r"[a-zA-Z0-9._-]+")


def segment_file(base_offset: int, suffix: str) -> str:
    """`00000000000000000042.log` and its like."""
    return f"{base_offset:020d}{suffix}"


def parse_segment_file(name: str) -> tuple[int, str] | None:
    """(offset, suffix) of a file that belongs to a log; None for any other name."""
    match = _SEGMENT_FILE.fullmatch(name)
    return None if match is None else (int(match[1]), match[2])


def parse_folder(name: str) -> TopicPartition | None:
    """The partition whose folder has this name; None for any other name."""
    match = _FOLDER.fullmatch(name)
    return None if match is None else TopicPartition(match[1], int(match[2]))


def deleted_folder(partition: TopicPartition, unique: UUID) -> str:
    """What a partition's folder is renamed to before it is removed: never longer than a file name may be."""
    ending = f".{unique.hex}{DELETED_FOLDER}"
    return str(partition)[: _MAX_FILE_NAME - len(ending)] + ending


def is_deleted_folder(name: str) -> bool:
    """Whether `deleted_folder` gave this name: others that end alike are not ours to remove."""
    return _DELETED_FOLDER.fullmatch(name) is not None


def is_topic_name(name: str) -> bool:
    """Whether Kafka allows a topic of this name."""
    return name not in (".", "..") and len(name) <= MAX_TOPIC_NAME and _TOPIC.fullmatch(name) is not None
