"""Record batches (format v2): bytes <-> batches. No IO."""

from logqueue.records.batch import BatchHeader, check_crc, iterate_batches, parse_header, patch
from logqueue.records.builder import build_batch, read_records
from logqueue.records.errors import (
    CorruptMessage,
    InvalidRecord,
    InvalidTimestamp,
    MessageTooLarge,
    RecordError,
    RecordListTooLarge,
    UnsupportedCompressionType,
)
from logqueue.records.record import Record

__all__ = [
    "BatchHeader",
    "CorruptMessage",
    "InvalidRecord",
    "InvalidTimestamp",
    "MessageTooLarge",
    "Record",
    "RecordError",
    "RecordListTooLarge",
    "UnsupportedCompressionType",
    "build_batch",
    "check_crc",
    "iterate_batches",
    "parse_header",
    "patch",
    "read_records",
]
