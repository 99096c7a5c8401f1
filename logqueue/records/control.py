"""Control records: the markers that end transactions. Knows their key and value, not what they end.

    key    version i16 | type i16 (0 abort, 1 commit)
    value  version i16 | coordinator epoch i32

Source: Kafka documentation, "Control Batches" (KIP-98).
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct, error
from typing import NamedTuple

from logqueue.records.builder import build_batch
from logqueue.records.errors import CorruptMessage
from logqueue.records.record import Record

_KEY = Struct(">hh")
_VALUE = Struct(">hi")
_VERSION = 0


class ControlType(IntEnum):
    """What a control record says; other types exist (KRaft's) and are skipped by readers."""

    ABORT = 0
    COMMIT = 1


class EndTransactionMarker(NamedTuple):
    """The end of a producer's transaction in one partition."""

    control_type: ControlType
    coordinator_epoch: int


def marker_record(marker: EndTransactionMarker, *, timestamp_ms: int) -> Record:
    """The record of a marker; it goes alone into a transactional control batch."""
    return Record(
        timestamp_ms=timestamp_ms,
        key=_KEY.pack(_VERSION, marker.control_type),
        value=_VALUE.pack(_VERSION, marker.coordinator_epoch),
    )


def marker_batch(
    marker: EndTransactionMarker, *, producer_id: int, producer_epoch: int, timestamp_ms: int
) -> bytearray:
    """The control batch that a marker is stored as."""
    return build_batch(
        [marker_record(marker, timestamp_ms=timestamp_ms)],
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=True,
        control=True,
    )


def parse_marker(record: Record) -> EndTransactionMarker | None:
    """Read a marker; None for control records of other types. Raises CorruptMessage."""
    try:
        type_id = _KEY.unpack_from(record.key or b"")[1]
        if type_id not in (ControlType.ABORT, ControlType.COMMIT):
            return None
        return EndTransactionMarker(ControlType(type_id), _VALUE.unpack_from(record.value or b"")[1])
    except error:
        raise CorruptMessage(f"Control record at offset {record.offset} is too short") from None
