"""Delivery exactly once: what one flush writes, and the positions that follow from it, happen together or not at all.

A transaction is opened when everything that belongs into it is at hand, and closed at once: none is open while a
handler runs or while a worker has nothing to write, and readers of committed records wait for none longer than its
requests take. Shell over a `TransactionalProducer`; what goes into which transaction is decided in `plan`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import structlog
from aiokafka import TopicPartition

from logqueue_consumers.commits.commits import Commits
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.outcome import Outcome
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.status.records import StatusRecords
from logqueue_consumers.topics.partition_counts import TopicPartitions
from logqueue_consumers.transactions.plan import after_abort, after_commit, after_refusal, cut, finishing, retrying
from logqueue_consumers.transactions.transaction import TransactionalProducer
from logqueue_consumers.transactions.values import (
    Aborted,
    Membership,
    NotMember,
    Position,
    Refused,
    Transaction,
    Uncertain,
)
from logqueue_consumers.transactions.wire import BrokerError, LogClient
from logqueue_consumers.writing.at_least_once import complain
from logqueue_consumers.writing.outgoing import Outgoing, Refusal
from logqueue_consumers.writing.pending import Delivered, Pending

log = structlog.get_logger(__name__)

STOP_TIMEOUT_S = 2.0
FIRST_BACKOFF_S = 0.02
MEMBER_WAIT_S = 0.02
"""How long to wait before looking again whether partitions are taken up, or gone."""


class Member(Protocol):
    """Who knows what the worker owns."""

    def membership(self) -> Membership | None:
        """Under which generation the partitions were assigned; None while none are."""
        ...

    def membership_over(self, membership: Membership) -> None:
        """The group refuses this generation."""
        ...

    def held_partitions(self) -> Collection[OwnedPartition]:
        """The partitions whose positions are known."""
        ...


class ExactlyOnce:
    """Writes flushes as transactions, one at a time."""

    def __init__(
        self,
        client: LogClient,
        producer: TransactionalProducer,
        records: StatusRecords,
        partitions: TopicPartitions,
        *,
        limits: WorkerLimits,
    ) -> None:
        self._client = client
        self._producer = producer
        self._records = records
        self._partitions = partitions
        self._limits = limits
        self._number = 0
        self._backoff_s = 0.0
        self._max_batch_records: int | None = None
        self._member: Member | None = None
        self._commits: Commits | None = None

    def bind(self, member: Member, commits: Commits) -> None:
        """Whose transactions these are; comes before the first record is taken."""
        self._member, self._commits = member, commits

    @property
    def transactional_id(self) -> str:
        """Under which id this worker's transactions run; commits name it so that a successor can end them."""
        return self._producer.transactional_id

    async def deliver(self, pending: Pending) -> Delivered:
        """Write one transaction; what it has no room for, and what was aborted, comes back."""
        member, commits = self._member, self._commits
        assert member is not None and commits is not None, "bind() comes first"
        membership = member.membership()
        ready = frozenset(member.held_partitions() if membership is not None else ())
        now, later = cut(pending, self._limits.max_transaction_records, ready)
        if not now.count:
            await asyncio.sleep(MEMBER_WAIT_S)
            return Delivered((), later)
        begins = (self._records.running(job) for job in now.started)
        records = await self._partitions.place([*begins, *now.emitted, *self._of_outcomes(now.outcomes)])
        homeless = [Refusal(place, Aborted("no such topic")) for place, r in enumerate(records) if r.partition is None]
        if homeless:
            return _refuse(now, later, records, homeless)
        finished = finishing(now)
        # No await up to the request: positions and membership must tell of the same moment.
        if member.membership() != membership or not finished.keys() <= set(member.held_partitions()):
            return Delivered((), now + later)
        self._number += 1
        offsets = commits.positions(finished, retrying(now), owner=self.owner_note())
        transaction = Transaction(records=records, offsets=offsets, membership=membership if offsets else None)
        try:
            is_committed = await self._write(member, commits, transaction)
        except Refused as refused:
            refusals = [Refusal(place, refused.error) for place in refused.places]
            return _refuse(now, later, records, refusals)
        if not is_committed:
            return after_abort(now, later)
        commits.written(finished, offsets)
        return after_commit(now, later)

    async def _write(self, member: Member, commits: Commits, transaction: Transaction) -> bool:
        """Write a transaction; false when it did not happen. Raises Refused where it never will with these records."""
        try:
            await self._producer.write(transaction, max_batch_records=self._max_batch_records)
        except Refused as refused:
            await self._renew()
            if refused.is_exact:
                self._max_batch_records = None
                raise
            log.warning("a batch is too large for its topic: its records go one by one", error=str(refused))
            self._max_batch_records = 1
            return False
        except NotMember as error:
            log.info("transaction aborted: no member of this generation", reason=str(error))
            await self._renew()
            assert transaction.membership is not None, "nobody else is told so"
            member.membership_over(transaction.membership)
            return False
        except Aborted as error:
            log.warning("transaction aborted: it is written again", reason=str(error))
            await self._renew()
            self._backoff_s = min(self._limits.max_backoff_s, self._backoff_s * 2 or FIRST_BACKOFF_S)
            await asyncio.sleep(self._backoff_s)
            return False
        except Uncertain as error:
            log.warning("transaction in doubt", reason=str(error))
            await self._renew()
            if not await _happened(commits, transaction.offsets):
                return False
        self._backoff_s = 0.0
        self._max_batch_records = None
        return True

    def owner_note(self) -> str:
        """Names the transaction and its owner in a commit's metadata: no two commits have the same."""
        return f"{self._number:x}.{self.transactional_id}"

    async def stop(self) -> None:
        """End what was cut short, and close the connection."""
        await self._producer.stop(timeout_s=STOP_TIMEOUT_S)
        await self._client.stop()

    def _of_outcomes(self, outcomes: Sequence[Outcome]) -> list[Outgoing]:
        """Everything that belongs to outcomes: of each where its job goes on, what follows from it, its status."""
        records: list[Outgoing] = []
        for outcome in outcomes:
            if outcome.topic is not None:
                records.append(self._records.moved(outcome))
            if outcome.more:
                records += outcome.more
            if not outcome.is_silent:
                records.append(self._records.status(outcome))
        return records

    async def _renew(self) -> None:
        """A new session, whatever it takes: without one nothing can be written."""
        while True:
            try:
                await self._producer.renew()
            except BrokerError as error:
                log.error("no session for transactions: nothing can be written", error=str(error))
                await asyncio.sleep(self._limits.max_backoff_s)
            else:
                return


async def _happened(commits: Commits, offsets: Mapping[TopicPartition, Position]) -> bool:
    """Whether a transaction was committed: its positions, which no other commit has, are in the log then."""
    if not offsets:
        return False
    found = await commits.read(list(offsets))
    return any(tuple(found[tp]) == tuple(position) for tp, position in offsets.items())


def _refuse(now: Pending, later: Pending, records: Sequence[Outgoing], refusals: list[Refusal]) -> Delivered:
    """Find out whose records these are: they come as starts, emitted ones, and those of each outcome."""
    places = complain(records, refusals)
    first = len(now.started)
    emitted = {place - first for place in places if first <= place < first + len(now.emitted)}
    jobs = {job for place, job in enumerate(now.started) if place in places}
    outcomes = set()
    position = first + len(now.emitted)
    for outcome in now.outcomes:
        size = (outcome.topic is not None) + len(outcome.more) + (not outcome.is_silent)
        if any(place in places for place in range(position, position + size)):
            outcomes.add(outcome)
        position += size
    return after_refusal(now, later, outcomes=outcomes, jobs=jobs, emitted=emitted)
