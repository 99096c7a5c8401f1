"""What a marker in the log means for its producer and for the transaction index. Writes nothing."""

from __future__ import annotations

from logqueue.records.batch import BatchHeader, Buffer
from logqueue.records.builder import read_records
from logqueue.records.control import ControlType, parse_marker
from logqueue.records.errors import CorruptMessage
from logqueue.storage.producer_state import ProducerState
from logqueue.storage.txn_index import AbortEntry


def note_marker(state: ProducerState, header: BatchHeader, batch: Buffer) -> AbortEntry | None:
    """Take a control batch into the producers' state; answers the index entry if it aborted a transaction.

    `header` has the batch's offset in the log. A control batch of another kind, or one that compaction has emptied,
    says nothing.
    """
    try:
        marker = next((found for record in read_records(batch) if (found := parse_marker(record))), None)
    except CorruptMessage:
        return None  # a control batch of a kind that is none of ours
    if marker is None:
        return None
    ended = state.end_transaction(header, marker)
    if ended is None or marker.control_type is ControlType.COMMIT:
        return None
    first_open = state.first_open_transaction
    return AbortEntry(
        producer_id=header.producer_id,
        first_offset=ended.first_offset,
        last_offset=ended.marker_offset,
        last_stable_offset=ended.marker_offset + 1 if first_open is None else first_open,
    )
