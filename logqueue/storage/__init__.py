"""Segments, indexes and logs in Kafka's on-disk format. The only room that touches files."""

from logqueue.storage.environment import Environment
from logqueue.storage.errors import (
    DataFolderError,
    InvalidPartitions,
    InvalidProducerEpoch,
    InvalidTopic,
    InvalidTxnState,
    OffsetOutOfRange,
    OutOfOrderSequence,
    StorageError,
    TopicExists,
    UnknownTopic,
)
from logqueue.storage.log import PartitionLog
from logqueue.storage.log_directory import LogDirectory
from logqueue.storage.results import AppendResult, FetchSlice, Origin
from logqueue.storage.segment_list import TimestampOffset
from logqueue.storage.topics import Topic

__all__ = [
    "AppendResult",
    "DataFolderError",
    "Environment",
    "FetchSlice",
    "InvalidPartitions",
    "InvalidProducerEpoch",
    "InvalidTopic",
    "InvalidTxnState",
    "LogDirectory",
    "OffsetOutOfRange",
    "Origin",
    "OutOfOrderSequence",
    "PartitionLog",
    "StorageError",
    "TimestampOffset",
    "Topic",
    "TopicExists",
    "UnknownTopic",
]
