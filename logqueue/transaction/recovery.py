"""The start: what a crash has left between two records, and transactions that logs know better than the coordinator.

Nobody waits until an Ongoing record is durable (TV2), so a power cut may take it and leave records that were
acknowledged. The logs tell: whose transaction is open there, in which epoch. Because every transaction of TV2 has an
epoch of its own, that names the transaction, and its record is written again from what is found:

| the coordinator's last durable record                | a log has a transaction open     | then                   |
|------------------------------------------------------|----------------------------------|------------------------|
| Ongoing, Empty or Complete, same producer and epoch  | in partitions that it lacks      | Ongoing with these too |
| Prepare, no part of its own open                     | in the epoch that follows it     | Complete, then Ongoing |
| Prepare otherwise                                    | its own: the marker was lost     | the markers again      |
| another epoch, another producer, nothing             | that nobody can end              | an abort marker        |

So a transaction is as if its Ongoing record had been awaited: who has survived the cut may go on and end it, with all
that was acknowledged to him; if nobody does, its timeout ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TypeAlias

from logqueue.coordination.effects import Now, Producer
from logqueue.errors import ErrorCode
from logqueue.ids import TopicPartition
from logqueue.transaction.ending import Ending
from logqueue.transaction.ledger import Entry, Ledger
from logqueue.transaction.states import ONGOING, PREPARED
from logqueue.transaction.transaction import EPOCH_BUMP_VERSION

OpenTransactions: TypeAlias = Mapping[Producer, Collection[TopicPartition]]
"""Transactions that logs have open, and where."""


class Recovery:
    """Finishes what was decided, and finds again what was begun."""

    def __init__(self, ledger: Ledger, ending: Ending) -> None:
        self._ledger = ledger
        self._ending = ending

    def run(self, found: OpenTransactions, *, token: object, now: Now) -> None:
        """Everything is replayed, `found` is what the logs have open. A record that fails is a Verdict on `token`."""
        unknown = dict(found)
        for entry in list(self._ledger.entries.values()):
            if entry.durable.state in PREPARED:
                self._finish(entry, unknown, token, now)
            else:
                partitions = unknown.pop(Producer(entry.durable.producer_id, entry.durable.epoch), None)
                if partitions is not None:
                    self._begin_again(entry, partitions, token, now)
        for producer, partitions in unknown.items():
            self._ending.abort_unknown(producer, tuple(sorted(partitions)), now)
        if self._ledger.ongoing:
            self._ending.watch(now)

    def _finish(
        self, entry: Entry, unknown: dict[Producer, Collection[TopicPartition]], token: object, now: Now
    ) -> None:
        durable = entry.durable
        completed = durable.completed(now_ms=now.time_ms)
        # The decision carries the epoch behind that of its records, except for an EndTxn of TV1.
        own = unknown.pop(Producer(durable.producer_id, durable.epoch - 1), None)
        following = unknown.pop(Producer(completed.producer_id, completed.epoch), None)
        if following is None or own is not None or durable.client_version < EPOCH_BUMP_VERSION:
            self._ending.resume(entry, _nobody, now)
            return
        # Its producer has gone on, so all markers were durable. Written again they would end what it has begun since.
        then = partial(self._begin_again, entry, following, token)
        self._ledger.append(entry, completed, self._settled(then, token), awaited=False)

    def _begin_again(self, entry: Entry, partitions: Collection[TopicPartition], token: object, now: Now) -> None:
        durable = entry.durable
        if durable.state is ONGOING and durable.partitions.issuperset(partitions):
            return
        again = durable.with_partitions(partitions, client_version=EPOCH_BUMP_VERSION, now_ms=now.time_ms)
        self._ledger.append(entry, again, self._settled(self._ending.watch, token), awaited=False)

    def _settled(self, then: Callable[[Now], None], token: object) -> Callable[[ErrorCode, Now], None]:
        def settle(error: ErrorCode, now: Now) -> None:
            if error is ErrorCode.NONE:
                then(now)
            else:
                self._ledger.judge(token, error)

        return settle


def _nobody(error: ErrorCode, now: Now) -> None:
    """Whoever asked for this end is gone with the run before."""
