"""What can be wrong with record batches, each with its code on the wire."""

from __future__ import annotations

from typing import NamedTuple

from logqueue.errors import ErrorCode, KafkaError


class RecordError(NamedTuple):
    """Why one record of a batch was refused: its index in the batch and a sentence for people (KIP-467)."""

    batch_index: int
    message: str


class CorruptMessage(KafkaError):
    """Bytes that are not a record batch: wrong length, checksum or layout."""

    code = ErrorCode.CORRUPT_MESSAGE


class MessageTooLarge(KafkaError):
    """A batch above `max.message.bytes`."""

    code = ErrorCode.MESSAGE_TOO_LARGE


class RecordListTooLarge(KafkaError):
    """Batches that do not fit one segment (`segment.bytes`)."""

    code = ErrorCode.RECORD_LIST_TOO_LARGE


class UnsupportedCompressionType(KafkaError):
    """A codec number that does not exist, or that this request version may not use."""

    code = ErrorCode.UNSUPPORTED_COMPRESSION_TYPE


class InvalidRecord(KafkaError):
    """A well-formed batch that breaks a rule; `record_errors` names the records, if single records are at fault."""

    code = ErrorCode.INVALID_RECORD

    def __init__(self, detail: str, *, record_errors: tuple[RecordError, ...] = ()) -> None:
        super().__init__(detail)
        self.record_errors = record_errors


class NotOneBatch(InvalidRecord):
    """Something else than one batch of the current format, which no log looks at."""


class InvalidTimestamp(InvalidRecord):
    """A timestamp outside what the topic allows, or of a type that only the broker may set."""

    code = ErrorCode.INVALID_TIMESTAMP
