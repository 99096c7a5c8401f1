"""The `.snapshot` file: producer state at the offset in its name, in Kafka's format. Knows no rules about producers.

0   i16  version                 1
2   u32  CRC-32C                 of everything from 6 on
6   i32  number of producers, each:
    i64  producer id
    i16  epoch
    i32  last sequence
    i64  last offset
    i32  offset delta            last offset - first offset of the last batch
    i64  timestamp in ms
    i32  coordinator epoch
    i64  first offset of the open transaction (-1: none)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from struct import Struct

from logqueue.records.crc import crc32c
from logqueue.storage.producer_state import ProducedBatch, ProducerEntry, ProducerState

VERSION = 1
SEGMENTS_WITH_SNAPSHOT = 2
"""So many of the last segments keep the snapshot of their base: if the newest is torn, an older one is used."""

_HEAD = Struct(">hIi")
_ENTRY = Struct(">qhiqiqiq")
_CRC_START = 6
_NO_BATCH = ProducedBatch(-1, -1, 0, -1)


def format_snapshot(state: ProducerState) -> bytes:
    """The bytes of a snapshot. Only the last batch of a producer is kept."""
    body = bytearray(_HEAD.size)
    for entry in state:
        batch = entry.batches[-1] if entry.batches else _NO_BATCH
        body += _ENTRY.pack(
            entry.producer_id,
            entry.epoch,
            batch.last_sequence,
            batch.last_offset,
            batch.offset_delta,
            entry.last_timestamp_ms,
            entry.coordinator_epoch,
            entry.transaction_start,
        )
    _HEAD.pack_into(body, 0, VERSION, 0, len(state))
    _HEAD.pack_into(body, 0, VERSION, crc32c(memoryview(body)[_CRC_START:]), len(state))
    return bytes(body)


def snapshots_to_keep(offsets: Iterable[int], bases: Sequence[int], *, recovery_point: int) -> list[int]:
    """Which snapshots of a log stay, sorted: the newest, the newest that a recovery could use now, and those at the
    `bases` of segments that may need one.

    Those are the last two, and all from the one on that holds the recovery point, where a recovery would start.
    """
    found = sorted(offsets)
    start = max(bisect_right(bases, recovery_point) - 1, 0)
    needed = set(bases[min(start, max(len(bases) - SEGMENTS_WITH_SNAPSHOT, 0)) :])
    needed.update(found[-1:])
    needed.update(found[: bisect_right(found, recovery_point)][-1:])
    return [at for at in found if at in needed]


def parse_snapshot(data: bytes) -> ProducerState | None:
    """The state in a snapshot; None if it is damaged or of another version, so that an older one is tried."""
    if len(data) < _HEAD.size:
        return None
    version, crc, count = _HEAD.unpack_from(data)
    if version != VERSION or crc != crc32c(memoryview(data)[_CRC_START:]):
        return None
    if len(data) != _HEAD.size + count * _ENTRY.size:
        return None
    entries = {}
    for producer_id, epoch, sequence, offset, delta, timestamp, coordinator_epoch, start in _ENTRY.iter_unpack(
        memoryview(data)[_HEAD.size :]
    ):
        entry = entries[producer_id] = ProducerEntry(producer_id, epoch)
        if offset >= 0:
            entry.batches.append(ProducedBatch(sequence, offset, delta, timestamp))
        entry.last_timestamp_ms = timestamp
        entry.coordinator_epoch = coordinator_epoch
        entry.transaction_start = start
    return ProducerState(entries)
