"""Transactional ids, what is being written of them, and the effects as they come about. Knows nothing of requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import NamedTuple, TypeAlias

from logqueue.coordination.effects import Append, Caller, LogRecord, Now, Reply
from logqueue.coordination.partitioning import partition_of
from logqueue.errors import ErrorCode
from logqueue.ids import TopicPartition
from logqueue.protocol.schema import Message
from logqueue.transaction.effects import Effect, Verdict, WriteMarkers
from logqueue.transaction.records import encode
from logqueue.transaction.states import DEAD, ONGOING, TransactionState
from logqueue.transaction.transaction import Transaction

# What follows an append: called with ErrorCode.NONE when it is durable, else with why it is not.
Outcome: TypeAlias = Callable[[ErrorCode, Now], None]
MarkersOutcome: TypeAlias = Callable[[tuple[TopicPartition, ...], Now], None]

_APPEND_FAILURES = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.REQUEST_TIMED_OUT: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
    ErrorCode.MESSAGE_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.RECORD_LIST_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
}


class Entry:
    """One transactional id: what is durable, and the state it is on the way to.

    `pending` is set from the moment a record is being written until it is settled, and from a durable Prepare until
    its Complete. `waiting` holds who wants to be asked again then, in order of arrival.
    """

    __slots__ = ("durable", "is_stuck", "pending", "waiting")

    def __init__(self, durable: Transaction) -> None:
        self.durable = durable
        self.pending: TransactionState | None = None
        self.is_stuck = False  # markers could not be written and are tried again after a while
        self.waiting: deque[Callable[[Now], None]] = deque()


class _Pending(NamedTuple):
    entry: Entry
    following: Transaction
    then: Outcome


class Ledger:
    """Every entry, every append and every set of markers under way."""

    def __init__(self, partitions: int) -> None:
        self.entries: dict[str, Entry] = {}
        self.ongoing: dict[str, Entry] = {}
        self.transaction_version = 0
        self._partitions = partitions
        self._effects: list[Effect] = []
        self._appends: dict[int, _Pending] = {}
        self._markers: dict[int, MarkersOutcome] = {}
        self._tickets = count(1)

    def reply(self, caller: Caller, response: Message) -> None:
        """Answer a client now."""
        self._effects.append(Reply(caller.token, response))

    def judge(self, token: object, error: ErrorCode) -> None:
        """Answer a producer's question now."""
        self._effects.append(Verdict(token, error))

    def append(self, entry: Entry, following: Transaction, then: Outcome, *, awaited: bool = True) -> None:
        """Write what the entry is to become; it holds, and `then` runs, when the shell reports."""
        ticket = next(self._tickets)
        entry.pending = following.state
        self._appends[ticket] = _Pending(entry, following, then)
        self._effects.append(
            Append(ticket, self.partition_for(following.transactional_id), (self._record(following),), awaited=awaited)
        )

    def _record(self, transaction: Transaction) -> LogRecord:
        return encode(transaction, transaction_version=self.transaction_version)

    def write_markers(self, entry: Entry, partitions: tuple[TopicPartition, ...], then: MarkersOutcome) -> None:
        """Have the prepared transaction's markers written; `then` gets the partitions where that failed."""
        durable = entry.durable
        self.mark(durable.producer_id, durable.epoch, durable.commits, durable.client_version, partitions, then)

    def mark(
        self,
        producer_id: int,
        epoch: int,
        commit: bool,
        version: int,
        partitions: tuple[TopicPartition, ...],
        then: MarkersOutcome,
    ) -> None:
        """Have these markers written; `then` gets the partitions where that failed."""
        ticket = next(self._tickets)
        self._markers[ticket] = then
        self._effects.append(WriteMarkers(ticket, producer_id, epoch, commit, version, partitions))

    def partition_for(self, transactional_id: str) -> int:
        """The partition of `__transaction_state` that holds the id."""
        return partition_of(transactional_id, self._partitions)

    def settle(self, ticket: int, error: ErrorCode, now: Now) -> None:
        """The outcome of an append. An unknown ticket is a defect of the shell."""
        entry, following, then = self._appends.pop(ticket)
        entry.pending = None
        if error is ErrorCode.NONE:
            self.hold(following)
        elif entry.durable.is_new:
            del self.entries[following.transactional_id]  # its first record was never there, and so was the id
        then(_APPEND_FAILURES.get(error, error), now)
        self.release(entry, now)

    def settle_markers(self, ticket: int, remaining: tuple[TopicPartition, ...], now: Now) -> None:
        """The outcome of a set of markers."""
        self._markers.pop(ticket)(remaining, now)

    def hold(self, transaction: Transaction) -> None:
        """A record that is durable, or need not be: from now on the id is what it says."""
        key = transaction.transactional_id
        if transaction.state is DEAD:
            self.forget(key)
            return
        entry = self.entries.get(key)
        if entry is None:
            self.entries[key] = entry = Entry(transaction)
        entry.durable = transaction
        if transaction.state is ONGOING:
            self.ongoing[key] = entry
        else:
            self.ongoing.pop(key, None)

    def forget(self, transactional_id: str) -> None:
        """The id is gone."""
        self.entries.pop(transactional_id, None)
        self.ongoing.pop(transactional_id, None)

    def release(self, entry: Entry, now: Now) -> None:
        """Ask again whoever waits, as long as nothing of the id is under way."""
        while entry.waiting and (entry.pending is None or entry.is_stuck):
            entry.waiting.popleft()(now)

    def drain(self) -> list[Effect]:
        """The effects since the last call, in order."""
        effects, self._effects = self._effects, []
        return effects
