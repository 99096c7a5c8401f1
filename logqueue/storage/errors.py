"""What can go wrong with a log or its folder. Knows nothing of requests."""

from __future__ import annotations

from logqueue.errors import ErrorCode, KafkaError, LogqueueError


class StorageError(KafkaError):
    """The disk refused something, or did so earlier and the folder has been closed to writes since."""

    code = ErrorCode.KAFKA_STORAGE_ERROR


class DiskFull(StorageError):
    """The disk took no more, or no more files could be opened, and nothing was changed: it goes on with room again."""


class OffsetOutOfRange(KafkaError):
    """A position before the log's start or beyond its end."""

    code = ErrorCode.OFFSET_OUT_OF_RANGE

    def __init__(self, offset: int, *, start: int, end: int) -> None:
        super().__init__(f"Offset {offset} is outside the log's range [{start}, {end}]")


class InvalidProducerEpoch(KafkaError):
    """A batch of a producer that a newer one with the same id has replaced."""

    code = ErrorCode.INVALID_PRODUCER_EPOCH


class OutOfOrderSequence(KafkaError):
    """A batch that does not follow the last one of its producer."""

    code = ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


class InvalidTxnState(KafkaError):
    """A transactional batch outside a transaction, or a plain one inside."""

    code = ErrorCode.INVALID_TXN_STATE


class TransactionCoordinatorFenced(KafkaError):
    """A marker of a transaction coordinator that a newer one has replaced."""

    code = ErrorCode.TRANSACTION_COORDINATOR_FENCED


class TopicExists(KafkaError):
    """A topic of that name is there already."""

    code = ErrorCode.TOPIC_ALREADY_EXISTS


class UnknownTopic(KafkaError):
    """No topic of that name is there."""

    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


class InvalidTopic(KafkaError):
    """A name that no topic may have."""

    code = ErrorCode.INVALID_TOPIC_EXCEPTION


class InvalidPartitions(KafkaError):
    """A number of partitions that a topic cannot have, or cannot come to have."""

    code = ErrorCode.INVALID_PARTITIONS


class DataFolderError(LogqueueError):
    """A data folder that cannot be used: in use, not writable, of another format, or damaged beyond recovery."""
