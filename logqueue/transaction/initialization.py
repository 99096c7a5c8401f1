"""InitProducerId for a transactional id: a producer id and an epoch that fences all earlier users (KIP-98, KIP-360)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from logqueue.coordination.effects import Caller, Now
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from logqueue.transaction.ending import Ending
from logqueue.transaction.ledger import Entry, Ledger
from logqueue.transaction.records import is_storable
from logqueue.transaction.states import ONGOING
from logqueue.transaction.transaction import NO_EPOCH, NO_PRODUCER_ID, Transaction, is_exhausted

PRODUCER_FENCED_SINCE = 4  # before, clients know INVALID_PRODUCER_EPOCH only


class Expected(NamedTuple):
    """What a producer that had an id already believes it to be."""

    producer_id: int
    epoch: int


class Initialization:
    """Answers InitProducerId."""

    def __init__(
        self, ledger: Ledger, ending: Ending, *, max_timeout_ms: int, take_producer_id: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._ending = ending
        self._max_timeout_ms = max_timeout_ms
        self._take_producer_id = take_producer_id

    def initialize(self, request: InitProducerIdRequest, *, caller: Caller, now: Now) -> None:
        """Give out the next epoch once it is durable; a transaction that is open is aborted first."""
        try:
            self._initialize(request, caller, now)
        except KafkaError as error:
            self._refuse(caller, error.code)

    def _initialize(self, request: InitProducerIdRequest, caller: Caller, now: Now) -> None:
        transactional_id = request.transactional_id
        assert transactional_id is not None, "an idempotent producer needs no coordinator"
        expected = expected_of(request)
        timeout_ms = request.transaction_timeout_ms
        if not transactional_id or not is_storable(transactional_id):
            raise KafkaError(code=ErrorCode.INVALID_REQUEST)
        if not 0 < timeout_ms <= self._max_timeout_ms:
            raise KafkaError(code=ErrorCode.INVALID_TRANSACTION_TIMEOUT)
        entry = self._ledger.entries.get(transactional_id)
        if entry is None:
            producer_id = self._take_producer_id()
            first = Transaction(
                transactional_id=transactional_id,
                producer_id=producer_id,
                timeout_ms=timeout_ms,
                updated_ms=now.time_ms,
            )
            self._ledger.entries[transactional_id] = entry = Entry(first)
        self._judge(entry, expected)
        if entry.durable.state is ONGOING:
            self._fence(entry, caller, now)
            return
        following = self._following(entry.durable, expected, timeout_ms, now)

        def settle(error: ErrorCode, _: Now) -> None:
            if error is ErrorCode.NONE:
                self._ledger.reply(
                    caller,
                    InitProducerIdResponse(producer_id=following.producer_id, producer_epoch=following.epoch),
                )
            else:
                self._refuse(caller, error)

        self._ledger.append(entry, following, settle)

    def _judge(self, entry: Entry, expected: Expected | None) -> None:
        if entry.pending is not None:
            raise KafkaError(code=ErrorCode.CONCURRENT_TRANSACTIONS)
        durable = entry.durable
        if expected is None or durable.is_new or expected.producer_id == durable.producer_id:
            return
        # The answer that brought a new producer id may have been lost: its last user may ask again.
        if expected.producer_id == durable.previous_producer_id and is_exhausted(expected.epoch):
            return
        raise KafkaError(code=ErrorCode.PRODUCER_FENCED)

    def _fence(self, entry: Entry, caller: Caller, now: Now) -> None:
        """Abort what the earlier user left open; the client asks again and gets an epoch that nobody had."""

        def settle(error: ErrorCode, _: Now) -> None:
            self._refuse(caller, ErrorCode.CONCURRENT_TRANSACTIONS if error is ErrorCode.NONE else error)

        self._ending.fence(entry, settle, now)

    def _following(self, durable: Transaction, expected: Expected | None, timeout_ms: int, now: Now) -> Transaction:
        if expected is not None and not durable.is_new and expected.epoch != durable.epoch:
            if expected.epoch != durable.last_epoch:
                raise KafkaError(code=ErrorCode.PRODUCER_FENCED)
            # A retry of a call that succeeded. Nobody else came in between: that would have cleared the last epoch.
            return durable.with_same_epoch(timeout_ms=timeout_ms, now_ms=now.time_ms)
        last_epoch = NO_EPOCH if expected is None else durable.epoch
        if durable.is_exhausted:
            return durable.with_new_id(
                self._take_producer_id(), last_epoch=last_epoch, timeout_ms=timeout_ms, now_ms=now.time_ms
            )
        return durable.with_next_epoch(last_epoch=last_epoch, timeout_ms=timeout_ms, now_ms=now.time_ms)

    def _refuse(self, caller: Caller, error: ErrorCode) -> None:
        if error is ErrorCode.PRODUCER_FENCED and caller.version < PRODUCER_FENCED_SINCE:
            error = ErrorCode.INVALID_PRODUCER_EPOCH
        self._ledger.reply(caller, refused(error))


def expected_of(request: InitProducerIdRequest) -> Expected | None:
    """The id a producer offers; None when it has none. Raises KafkaError for half of one."""
    if request.producer_id == NO_PRODUCER_ID and request.producer_epoch == NO_EPOCH:
        return None
    if NO_PRODUCER_ID in (request.producer_id, request.producer_epoch):
        raise KafkaError(code=ErrorCode.INVALID_REQUEST)
    return Expected(request.producer_id, request.producer_epoch)


def refused(error: ErrorCode) -> InitProducerIdResponse:
    """The answer that gives out nothing."""
    return InitProducerIdResponse(error_code=error, producer_epoch=NO_EPOCH)
