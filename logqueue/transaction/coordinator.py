"""The transaction coordinator of one broker: requests, outcomes and deadlines in, effects out. Sans-IO.

How a shell runs it:

1. At start, `replay(key, value)` for every record of each partition of `__transaction_state` in order, then
   `on_loaded`: its effects finish the transactions that a crash left between Prepare and Complete, and those that logs
   have open and `__transaction_state` does not. No log takes anything, and no request is served, before they are
   carried out.
2. Each request goes to the method of its API. Every call returns effects; the shell carries them out in order:
   `Append` -> `on_appended` or `on_append_failed`; `WriteMarkers` -> `on_markers_written` or `on_markers_failed`;
   `Reply` -> answer the client; `Verdict` -> tell the produce that asked.
3. When `next_deadline()` (seconds of the monotonic clock; it may have moved after any call) has come, `on_deadline`.

Only `replay` and durable appends change what a transactional id is; those that TV2 adds partitions with count when
they are written, since the logs tell of them after a power cut (`recovery.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from logqueue.config import BrokerConfig
from logqueue.coordination.effects import Caller, Now
from logqueue.coordination.timers import Timers
from logqueue.coordination.topics import Topics
from logqueue.errors import ErrorCode
from logqueue.ids import TopicPartition
from logqueue.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from logqueue.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest
from logqueue.protocol.messages.describe_transactions import DescribeTransactionsRequest
from logqueue.protocol.messages.end_txn import EndTxnRequest
from logqueue.protocol.messages.init_producer_id import InitProducerIdRequest
from logqueue.protocol.messages.list_transactions import ListTransactionsRequest
from logqueue.transaction.effects import Effect
from logqueue.transaction.ending import Ending
from logqueue.transaction.expiry import Expiry
from logqueue.transaction.initialization import Initialization
from logqueue.transaction.ledger import Ledger
from logqueue.transaction.listing import Listing
from logqueue.transaction.partitions import Partitions
from logqueue.transaction.records import decode
from logqueue.transaction.recovery import OpenTransactions, Recovery


class TransactionCoordinator:
    """All transactional ids of the broker.

    `take_producer_id` gives ids that were never given before, or raises KafkaError. `transaction_version` is the
    finalized level of the feature (KIP-890); it may be set at any time.
    """

    def __init__(
        self,
        config: BrokerConfig,
        topics: Topics,
        *,
        take_producer_id: Callable[[], int],
        transaction_version: int,
    ) -> None:
        self._ledger = ledger = Ledger(config.transaction_state_log_num_partitions)
        ledger.transaction_version = transaction_version
        self._timers = timers = Timers()
        self._ending = Ending(
            ledger,
            timers,
            abort_interval_ms=config.transaction_abort_timed_out_transaction_cleanup_interval_ms,
            take_producer_id=take_producer_id,
        )
        self._initialization = Initialization(
            ledger,
            self._ending,
            max_timeout_ms=config.transaction_max_timeout_ms,
            take_producer_id=take_producer_id,
        )
        self._partitions = Partitions(ledger, self._ending, topics)
        self._listing = Listing(ledger)
        self._recovery = Recovery(ledger, self._ending)
        self._expiry = Expiry(
            ledger,
            timers,
            after_ms=config.transactional_id_expiration_ms,
            interval_ms=config.transaction_remove_expired_transaction_cleanup_interval_ms,
        )

    @property
    def transaction_version(self) -> int:
        """The finalized level of `transaction.version`: how records are written and how producers are fenced."""
        return self._ledger.transaction_version

    @transaction_version.setter
    def transaction_version(self, level: int) -> None:
        self._ledger.transaction_version = level

    def partition_for(self, transactional_id: str) -> int:
        """The partition of `__transaction_state` that holds the id."""
        return self._ledger.partition_for(transactional_id)

    # Requests

    def init_producer_id(self, request: InitProducerIdRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """InitProducerId 0-5 with a transactional id. The reply follows the append."""
        self._initialization.initialize(request, caller=caller, now=now)
        return self._ledger.drain()

    def add_partitions(self, request: AddPartitionsToTxnRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """AddPartitionsToTxn 0-5. The reply follows the appends."""
        self._partitions.add(request, caller=caller, now=now)
        return self._ledger.drain()

    def add_offsets(
        self, request: AddOffsetsToTxnRequest, *, offsets_partition: int, caller: Caller, now: Now
    ) -> list[Effect]:
        """AddOffsetsToTxn 0-4; `offsets_partition` of `__consumer_offsets` holds the group."""
        self._partitions.add_offsets(request, offsets_partition, caller=caller, now=now)
        return self._ledger.drain()

    def end(self, request: EndTxnRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """EndTxn 0-5. The reply follows the markers."""
        self._ending.end(request, caller=caller, now=now)
        return self._ledger.drain()

    def describe(self, request: DescribeTransactionsRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """DescribeTransactions 0."""
        self._listing.describe(request, caller=caller)
        return self._ledger.drain()

    def list_transactions(self, request: ListTransactionsRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """ListTransactions 0-2."""
        self._listing.list_transactions(request, caller=caller, now=now)
        return self._ledger.drain()

    # Producers

    def verify(self, transactional_id: str, producer_id: int, epoch: int, partition: TopicPartition) -> ErrorCode:
        """Whether the partition is in the producer's transaction: NONE, or why it may not write there."""
        return self._partitions.verify(transactional_id, producer_id, epoch, partition)

    def verify_or_add(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        partitions: Collection[TopicPartition],
        *,
        token: object,
        now: Now,
    ) -> list[Effect]:
        """TV2: add what is missing. The Verdict comes once the partitions are part of the transaction."""
        self._partitions.verify_or_add(transactional_id, producer_id, epoch, partitions, token=token, now=now)
        return self._ledger.drain()

    # Events

    def on_appended(self, ticket: int, *, now: Now) -> list[Effect]:
        """An append is durable."""
        self._ledger.settle(ticket, ErrorCode.NONE, now)
        return self._ledger.drain()

    def on_append_failed(self, ticket: int, error: ErrorCode, *, now: Now) -> list[Effect]:
        """An append did not happen; `error` is the log's own reason."""
        assert error is not ErrorCode.NONE
        self._ledger.settle(ticket, error, now)
        return self._ledger.drain()

    def on_markers_written(self, ticket: int, *, now: Now) -> list[Effect]:
        """All markers of a set are durable, or not needed."""
        self._ledger.settle_markers(ticket, (), now)
        return self._ledger.drain()

    def on_markers_failed(self, ticket: int, remaining: Collection[TopicPartition], *, now: Now) -> list[Effect]:
        """Markers of these partitions could not be written; they are asked for again after a while."""
        assert remaining
        self._ledger.settle_markers(ticket, tuple(remaining), now)
        return self._ledger.drain()

    # Start

    def replay(self, key: bytes, value: bytes | None) -> None:
        """Take in one record of `__transaction_state`. Raises MalformedFrame for bytes that are no such record."""
        found = decode(key, value)
        if found is None:
            return
        transactional_id, transaction = found
        if transaction is None:
            self._ledger.forget(transactional_id)
        else:
            self._ledger.hold(transaction)

    def on_loaded(self, found: OpenTransactions, *, token: object, now: Now) -> list[Effect]:
        """Everything is replayed: finish what was decided, begin again what was open, watch timeouts and expiry.

        `found` are the transactions that logs have open. A Verdict on `token` with an error means that this could not
        be written: nothing may be served then.
        """
        self._recovery.run(found, token=token, now=now)
        self._expiry.schedule(now)
        return self._ledger.drain()

    # Time

    def next_deadline(self) -> float | None:
        """When `on_deadline` is due, in seconds of the monotonic clock; None for never."""
        return self._timers.next_deadline()

    def on_deadline(self, *, now: Now) -> list[Effect]:
        """Do what has become due."""
        while (action := self._timers.take_due(now.monotonic)) is not None:
            action(now)
        return self._ledger.drain()
