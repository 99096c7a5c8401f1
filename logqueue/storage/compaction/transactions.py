"""What compaction has to know of transactions (KIP-98, KIP-534). Knows no files.

Records of aborted transactions go at once. A marker stays as long as a batch of its transaction was still there in
this pass; after that it is free to go, once its delete horizon has passed.
"""

from __future__ import annotations

from collections.abc import Iterable

from logqueue.records.batch import BatchHeader
from logqueue.records.control import ControlType
from logqueue.storage.txn_index import AbortEntry


class TransactionsSeen:
    """Follows the transactions of one pass over a log, batch by batch in offset order.

    `kept` collects the aborted transactions of which something is left, in the order of their markers: the new index.
    """

    def __init__(self, aborted: Iterable[AbortEntry]) -> None:
        self.kept: list[AbortEntry] = []
        self._coming = sorted(aborted, key=lambda entry: -entry.first_offset)
        self._aborted: dict[int, AbortEntry] = {}  # by producer id, begun and not yet ended
        self._with_data: set[int] = set()  # producers of those of them that had a batch
        self._committed: set[int] = set()  # producers with batches of a transaction that is not aborted

    def is_aborted(self, header: BatchHeader) -> bool:
        """Take note of a batch of records; whether a transaction that was aborted wrote it."""
        if not self._coming and not header.is_transactional:
            return False
        self._begin(header.last_offset)
        if not header.is_transactional:
            return False
        if header.producer_id in self._aborted:
            self._with_data.add(header.producer_id)
            return True
        self._committed.add(header.producer_id)
        return False

    def is_marker_free(self, header: BatchHeader, marker: ControlType | None) -> bool:
        """Take note of a control batch; whether nothing of its transaction came before it.

        `marker` is None for an empty control batch, which an earlier compaction emptied: it is free to go.
        """
        self._begin(header.last_offset)
        producer_id = header.producer_id
        if marker is None:
            return True
        if marker is ControlType.COMMIT:
            had_data = producer_id in self._committed
            self._committed.discard(producer_id)
            return not had_data
        aborted = self._aborted.pop(producer_id, None)
        if aborted is not None and producer_id in self._with_data:
            self._with_data.discard(producer_id)
            self.kept.append(aborted)
            return False
        return True

    def take_kept(self) -> list[AbortEntry]:
        """What was kept since the last call: the index of the segment just written."""
        kept, self.kept = self.kept, []
        return kept

    def _begin(self, up_to: int) -> None:
        while self._coming and self._coming[-1].first_offset <= up_to:
            entry = self._coming.pop()
            self._aborted.setdefault(entry.producer_id, entry)
