"""How transactions end: EndTxn, the fencing of producers, timeouts, and the markers in between.

Prepare is the decision: once it is durable the transaction ends that way, whatever happens. Then markers are written to
every partition of the transaction, then Complete. A client is answered when it is over, so that its next request does
not meet CONCURRENT_TRANSACTIONS; if markers cannot be written, it is answered nevertheless, since nothing can change
the outcome any more, and the markers are tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from logqueue.coordination.effects import Caller, Now, Producer
from logqueue.coordination.timers import Timers
from logqueue.errors import ErrorCode, KafkaError
from logqueue.ids import TopicPartition
from logqueue.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from logqueue.transaction.end_rules import EndVerdict, judge_v1, judge_v2
from logqueue.transaction.ledger import Entry, Ledger, Outcome
from logqueue.transaction.states import COMPLETE_ABORT, COMPLETE_COMMIT, ONGOING, PREPARED
from logqueue.transaction.transaction import EPOCH_BUMP_VERSION, MAX_EPOCH, NO_PRODUCER_ID, Transaction

PRODUCER_FENCED_SINCE = 2  # before, clients know INVALID_PRODUCER_EPOCH only
EPOCH_BUMP_SINCE = 5

MARKER_RETRY_SECONDS = 1.0
"""Wait before markers that could not be written (a full disk) are tried again. They are owed, so there is no end."""


class Ending:
    """Answers EndTxn, and ends the transactions of those who can no longer do so."""

    def __init__(
        self, ledger: Ledger, timers: Timers, *, abort_interval_ms: int, take_producer_id: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._timers = timers
        self._abort_interval_seconds = abort_interval_ms / 1000
        self._take_producer_id = take_producer_id
        self._is_watching = False

    # EndTxn

    def end(self, request: EndTxnRequest, *, caller: Caller, now: Now) -> None:
        """Commit or abort; the answer follows the markers."""
        is_v2 = caller.version >= EPOCH_BUMP_SINCE
        entry = self._ledger.entries.get(request.transactional_id)
        judge = judge_v2 if is_v2 else judge_v1
        try:
            if not request.transactional_id:
                raise KafkaError(code=ErrorCode.INVALID_REQUEST)
            verdict = judge(
                entry, producer_id=request.producer_id, epoch=request.producer_epoch, commit=request.committed
            )
            assert entry is not None
            if verdict is EndVerdict.DONE_ALREADY:
                self._answer(caller, entry, ErrorCode.NONE)
                return
            prepared = entry.durable.prepared(
                commit=request.committed,
                client_version=EPOCH_BUMP_VERSION if is_v2 else 0,
                next_producer_id=self._successor(entry.durable) if is_v2 else NO_PRODUCER_ID,
                now_ms=now.time_ms,
            )
        except KafkaError as error:
            self._answer(caller, entry, error.code)
            return
        found = entry
        self._prepare(entry, prepared, lambda error, _: self._answer(caller, found, error), now)

    def _answer(self, caller: Caller, entry: Entry | None, error: ErrorCode) -> None:
        if error is ErrorCode.PRODUCER_FENCED and caller.version < PRODUCER_FENCED_SINCE:
            error = ErrorCode.INVALID_PRODUCER_EPOCH
        response = EndTxnResponse(error_code=error)
        if error is ErrorCode.NONE and caller.version >= EPOCH_BUMP_SINCE:
            assert entry is not None
            durable = entry.durable
            if durable.state in PREPARED:  # answered ahead of the markers: tell what Complete will bring
                durable = durable.completed(now_ms=durable.updated_ms)
            response.producer_id, response.producer_epoch = durable.producer_id, durable.epoch
        self._ledger.reply(caller, response)

    def _successor(self, durable: Transaction) -> int:
        """The producer id that follows when a TV2 end uses the last epoch up. Raises KafkaError."""
        return self._take_producer_id() if durable.is_exhausted else NO_PRODUCER_ID

    # Fencing and timeouts

    def fence(self, entry: Entry, then: Outcome, now: Now) -> None:
        """Abort an ongoing transaction with an epoch that its producer does not have. Raises KafkaError.

        With TV2 the abort itself brings the next epoch; with TV1 it is written with one that nobody is told.
        """
        durable = entry.durable
        assert durable.state is ONGOING and entry.pending is None
        if self._ledger.transaction_version >= EPOCH_BUMP_VERSION:
            version, successor = EPOCH_BUMP_VERSION, self._successor(durable)
        else:
            version, successor, durable = 0, NO_PRODUCER_ID, durable.fenced()
        prepared = durable.prepared(
            commit=False, client_version=version, next_producer_id=successor, now_ms=now.time_ms
        )
        self._prepare(entry, prepared, then, now)

    def watch(self, now: Now) -> None:
        """There is an ongoing transaction: look for timeouts from now on, until there is none."""
        if not self._is_watching:
            self._is_watching = True
            self._timers.set(("abort",), now.monotonic + self._abort_interval_seconds, self._abort_timed_out)

    def _abort_timed_out(self, now: Now) -> None:
        self._is_watching = False
        for entry in list(self._ledger.ongoing.values()):
            durable = entry.durable
            if entry.pending is None and durable.started_ms + durable.timeout_ms < now.time_ms:
                try:
                    self.fence(entry, _whatever, now)
                except KafkaError:
                    break  # no new producer id can be had: the disk is in trouble, and the next look comes
        if self._ledger.ongoing:
            self.watch(now)

    def abort_unknown(self, producer: Producer, partitions: tuple[TopicPartition, ...], now: Now) -> None:
        """Abort what a log has open and no transactional id can end. With an epoch that nobody has, so that it fences.

        A marker that is lost is written again at the next start, which finds the same.
        """

        def settle(remaining: tuple[TopicPartition, ...], later: Now) -> None:
            if remaining:
                self._timers.set(
                    ("unknown", producer),
                    later.monotonic + MARKER_RETRY_SECONDS,
                    partial(self.abort_unknown, producer, remaining),
                )

        epoch = min(producer.epoch + 1, MAX_EPOCH)
        self._ledger.mark(producer.producer_id, epoch, False, EPOCH_BUMP_VERSION, partitions, settle)

    # The way of an end

    def _prepare(self, entry: Entry, prepared: Transaction, then: Outcome, now: Now) -> None:
        def settle(error: ErrorCode, later: Now) -> None:
            if error is ErrorCode.NONE:
                self.resume(entry, then, later)
            else:
                then(error, later)

        self._ledger.append(entry, prepared, settle)

    def resume(self, entry: Entry, then: Outcome, now: Now) -> None:
        """Finish what a durable Prepare has decided: now, or after a restart."""
        durable = entry.durable
        entry.pending = COMPLETE_COMMIT if durable.commits else COMPLETE_ABORT
        self._mark(entry, tuple(sorted(durable.partitions)), then, now)

    def _mark(self, entry: Entry, partitions: tuple[TopicPartition, ...], then: Outcome, now: Now) -> None:
        if partitions:
            self._ledger.write_markers(entry, partitions, partial(self._on_marked, entry, then))
        else:
            self._on_marked(entry, then, (), now)

    def _on_marked(self, entry: Entry, then: Outcome, remaining: tuple[TopicPartition, ...], now: Now) -> None:
        if remaining:
            self._try_again(entry, remaining, then, now)
            return

        def settle(error: ErrorCode, later: Now) -> None:
            if error is ErrorCode.NONE:
                entry.is_stuck = False
                then(error, later)
            else:
                entry.pending = COMPLETE_COMMIT if entry.durable.commits else COMPLETE_ABORT
                self._try_again(entry, (), then, later)

        # Not awaited: if it is lost, replay finds Prepare and writes the same markers again.
        self._ledger.append(entry, entry.durable.completed(now_ms=now.time_ms), settle, awaited=False)

    def _try_again(self, entry: Entry, partitions: tuple[TopicPartition, ...], then: Outcome, now: Now) -> None:
        if not entry.is_stuck:
            entry.is_stuck = True
            then(ErrorCode.NONE, now)
            self._ledger.release(entry, now)
        self._timers.set(
            ("markers", entry.durable.transactional_id),
            now.monotonic + MARKER_RETRY_SECONDS,
            partial(self._mark, entry, partitions, _whatever),
        )


def _whatever(error: ErrorCode, now: Now) -> None:
    """Nobody waits for the outcome."""
