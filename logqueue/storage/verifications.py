"""Producers whose transaction a log is about to see for the first time (KIP-890). Knows neither files nor coordinators.

Before a producer's first transactional batch is appended the coordinator is asked whether its partition is in the
transaction. The answer may be no for now, and later batches of the producer may be on their way already: were one of
them appended, those before it would be out of order for ever. So the lowest sequence that was asked for is kept, and
nothing above it is taken, until a batch of the transaction is in the log, or a marker.
"""

from __future__ import annotations

from logqueue.records.batch import BatchHeader
from logqueue.storage.errors import OutOfOrderSequence


class _Verification:
    """What a producer has asked for."""

    __slots__ = ("epoch", "epochs_change", "lowest_sequence", "since_ms")

    def __init__(self, epoch: int, sequence: int, *, epochs_change: bool, since_ms: int) -> None:
        self.epoch = epoch
        self.lowest_sequence = sequence
        self.epochs_change = epochs_change
        self.since_ms = since_ms


class Verifications:
    """The verifications under way in one log, by producer id."""

    __slots__ = ("_by_producer",)

    def __init__(self) -> None:
        self._by_producer: dict[int, _Verification] = {}

    def __bool__(self) -> bool:
        return bool(self._by_producer)

    def begin(self, producer_id: int, epoch: int, sequence: int, *, epochs_change: bool, now_ms: int) -> None:
        """The coordinator is about to be asked for the transaction of a batch that starts at `sequence`.

        A newer epoch asks anew. `epochs_change`: each transaction of the producer has an epoch of its own, and so
        starts at sequence 0 (Produce 12).
        """
        known = self._by_producer.get(producer_id)
        if known is None:
            self._by_producer[producer_id] = _Verification(
                epoch, sequence, epochs_change=epochs_change, since_ms=now_ms
            )
        elif epoch > known.epoch:
            known.epoch = epoch
            known.lowest_sequence = sequence
        elif epoch == known.epoch and sequence < known.lowest_sequence:
            known.lowest_sequence = sequence

    def check(self, header: BatchHeader, *, is_first: bool) -> None:
        """Raise OutOfOrderSequence if a client's batch may not follow; `is_first` in its epoch, as far as is known."""
        known = self._by_producer.get(header.producer_id)
        if known is None:
            return
        if known.epochs_change and is_first and header.base_sequence != 0:
            raise OutOfOrderSequence(
                f"Producer {header.producer_id} begins here with sequence {header.base_sequence} instead of 0"
            )
        if header.base_sequence > known.lowest_sequence:
            raise OutOfOrderSequence(
                f"Producer {header.producer_id}: sequence {header.base_sequence} came while "
                f"{known.lowest_sequence}, refused before, is still to come"
            )

    def settle(self, header: BatchHeader) -> None:
        """A transactional batch, or a marker, is in the log: from now on the log itself knows."""
        known = self._by_producer.get(header.producer_id)
        # The marker with a new epoch ends the transaction before the one that is asked for.
        if known is not None and not (
            known.epochs_change and header.is_control and header.producer_epoch == known.epoch
        ):
            del self._by_producer[header.producer_id]

    def expire(self, *, now_ms: int, after_ms: int) -> None:
        """Forget what began `after_ms` ago or earlier."""
        old = [pid for pid, known in self._by_producer.items() if now_ms - known.since_ms >= after_ms]
        for producer_id in old:
            del self._by_producer[producer_id]
