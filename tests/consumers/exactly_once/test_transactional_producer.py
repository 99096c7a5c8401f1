"""Transactions on the log itself: what a fault leaves is nothing, whoever is fenced writes nothing more."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from logqueue_consumers.commits.notes import write_notes
from logqueue_consumers.commits.offset_reader import OffsetReader
from logqueue_consumers.transactions.opening import is_implicit, what_is_missing
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
from logqueue_consumers.transactions.wire import LogClient
from logqueue_consumers.writing.outgoing import Outgoing

from logqueue.clock import SystemClock
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.topics import TopicSpec
from logqueue.protocol.messages.end_txn import EndTxnRequest
from logqueue.protocol.messages.txn_offset_commit import TxnOffsetCommitRequest
from logqueue.protocol.schema import Message
from tests.consumers.conftest import Log

PARTITIONS = 3
SMALL_BYTES = 20_000
TIMEOUT_MS = 60_000
SOONER_S = 40
"""What has ended by then has not waited for the timeout of its transaction."""


class FaultyClient(LogClient):
    """Loses the answer to, or never sends, the requests of one kind, so many times."""

    lost: type[Message] | None = None
    unsent: type[Message] | None = None
    times = 1
    in_one_write = 0
    """How often records and offsets left together."""

    async def ask_coordinator(self, kind: int, key: str, message: Message, *, lowest: int, highest: int) -> Any:
        if type(message) is self.unsent and self.times:
            self.times -= 1
            raise KafkaConnectionError("cut before it was sent")
        answer = await super().ask_coordinator(kind, key, message, lowest=lowest, highest=highest)
        if type(message) is self.lost and self.times:
            self.times -= 1
            raise KafkaConnectionError("cut before the answer")
        return answer

    async def ask_both(
        self, coordinator: int, first: Message, second: Message, *, versions: tuple[int, int]
    ) -> tuple[Any, Any]:
        self.in_one_write += 1
        if type(second) is self.unsent and self.times:
            self.times -= 1
            raise KafkaConnectionError("cut before it was sent")
        answers = await super().ask_both(coordinator, first, second, versions=versions)
        if type(second) is self.lost and self.times:
            self.times -= 1
            raise KafkaConnectionError("cut before the answer")
        return answers


class Bench:
    def __init__(self, log: Log, client: FaultyClient, *, implicit: bool) -> None:
        self.log = log
        self.client = client
        self.topic = f"{log.settings.topic_prefix}jobs.q"
        self.implicit = implicit
        self.offsets = OffsetReader(log.settings, max_backoff_s=1.0, transaction_timeout_ms=TIMEOUT_MS)
        self.producer = self.another(f"{log.name}-{secrets.token_hex(4)}")

    def another(self, transactional_id: str) -> TransactionalProducer:
        return TransactionalProducer(
            self.client,
            transactional_id,
            clock=SystemClock(),
            timeout_ms=TIMEOUT_MS,
            compression="none",
            batch_bytes=100_000,
            max_backoff_s=1.0,
            is_implicit=self.implicit,
        )

    def transaction(
        self, *numbers: int, offset: int | None = None, membership: Membership | None = None
    ) -> Transaction:
        records = [Outgoing(self.topic, n % PARTITIONS, b"k", b"%d" % n) for n in numbers]
        simple = Membership(self.log.name, "", -1, None)  # no member: allowed while the group has none
        offsets = {} if offset is None else {TopicPartition(self.topic, 0): Position(offset, f"m{offset}")}
        return Transaction(records=records, offsets=offsets, membership=membership or simple)

    async def values(self) -> list[int]:
        return sorted(int(record.value) for record in await self.log.read(self.topic))

    async def committed(self) -> tuple[int, str]:
        tp = TopicPartition(self.topic, 0)
        return (await self.offsets.read(self.log.name, [tp]))[tp]


@pytest.fixture(params=[True, False], ids=["implicit", "explicit"])
def implicit(request: pytest.FixtureRequest) -> bool:
    """Whether the log adds partitions and groups to transactions by itself (KIP-890), or is told."""
    return bool(request.param)


@asynccontextmanager
async def bench(log: Log, *, implicit: bool) -> AsyncIterator[Bench]:
    spec = TopicSpec(
        name=f"{log.settings.topic_prefix}jobs.q",
        partitions=PARTITIONS,
        configs={"max.message.bytes": str(SMALL_BYTES)},
    )
    await ensure_topics(log.settings, [spec])
    client = FaultyClient(log.settings)
    await client.start()
    made = Bench(log, client, implicit=implicit)
    await made.producer.renew()
    try:
        yield made
    finally:
        await made.producer.stop(timeout_s=5)
        await made.offsets.stop()
        await client.stop()


def test_records_and_offsets_are_committed_together_again_and_again(log: Log, implicit: bool) -> None:
    async def main() -> None:
        async with bench(log, implicit=implicit) as made:
            for round_ in range(10):
                numbers = range(round_ * 10, round_ * 10 + 10)
                await made.producer.write(made.transaction(*numbers, offset=round_))
                assert await made.committed() == (round_, f"m{round_}")
            assert await made.values() == list(range(100))
            assert not made.producer.is_open

    asyncio.run(main())


def test_once_the_coordinator_is_known_records_and_offsets_leave_in_one_write(log: Log, implicit: bool) -> None:
    async def main() -> None:
        async with bench(log, implicit=implicit) as made:
            await made.producer.write(made.transaction(1, offset=1))
            assert made.client.in_one_write == 0
            await made.producer.write(made.transaction(2, offset=2))
            await made.producer.write(made.transaction(3))  # no offsets
            assert made.client.in_one_write == implicit
            assert await made.values() == [1, 2, 3]
            assert await made.committed() == (2, "m2")

    asyncio.run(main())


def test_what_is_refused_in_one_write_is_told_as_if_it_were_in_its_own(log: Log, implicit: bool) -> None:
    async def main() -> None:
        async with bench(log, implicit=implicit) as made:
            await made.producer.write(made.transaction(1, offset=1))
            old = Membership(log.name, "nobody", 7, None)
            with pytest.raises(NotMember):
                await made.producer.write(made.transaction(2, offset=2, membership=old))
            await made.producer.renew()
            bad = Outgoing(made.topic, 0, b"k", b"x" * SMALL_BYTES)
            fine = made.transaction(3, offset=3)
            with pytest.raises(Refused) as single:
                await made.producer.write(Transaction(records=[bad], offsets=fine.offsets, membership=fine.membership))
            assert (single.value.is_exact, list(single.value.places)) == (True, [0])
            await made.producer.renew()
            await made.producer.write(fine)
            assert made.client.in_one_write == 3 * implicit
            assert await made.values() == [1, 3]
            assert await made.committed() == (3, "m3")

    asyncio.run(main())


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("fault", ["unsent", "lost"])
def test_after_a_fault_in_the_middle_nothing_has_happened(log: Log, implicit: bool, fault: str, is_first: bool) -> None:
    async def main() -> None:
        async with bench(log, implicit=implicit) as made:
            if not is_first:  # from then on both leave in one write
                await made.producer.write(made.transaction(0, offset=4))
            setattr(made.client, fault, TxnOffsetCommitRequest)
            with pytest.raises(Aborted):
                await made.producer.write(made.transaction(1, 2, 3, offset=5))
            assert made.producer.is_open
            await made.producer.renew()
            assert await made.values() == ([] if is_first else [0])
            assert await made.committed() == ((-1, "") if is_first else (4, "m4"))
            await made.producer.write(made.transaction(1, 2, 3, offset=5))
            assert await made.values() == ([1, 2, 3] if is_first else [0, 1, 2, 3])
            assert await made.committed() == (5, "m5")

    asyncio.run(main())


@pytest.mark.parametrize("fault", ["unsent", "lost"])
def test_an_end_without_an_answer_is_asked_for_until_it_is_known(log: Log, implicit: bool, fault: str) -> None:
    async def main() -> None:
        async with bench(log, implicit=implicit) as made:
            setattr(made.client, fault, EndTxnRequest)
            await made.producer.write(made.transaction(1, 2, 3, offset=5))
            await made.producer.write(made.transaction(4, 5, 6, offset=6))
            assert await made.values() == [1, 2, 3, 4, 5, 6]
            assert await made.committed() == (6, "m6")

    asyncio.run(main())


def test_whoever_is_fenced_commits_nothing_more_and_learns_it(log: Log, implicit: bool) -> None:
    async def main() -> None:
        async with bench(log, implicit=implicit) as made:
            await made.producer.write(made.transaction(1, offset=1))
            heir = made.another(made.producer.transactional_id)
            await heir.renew()
            with pytest.raises((Aborted, Uncertain)):
                await made.producer.write(made.transaction(2, offset=2))
            await heir.write(made.transaction(3, offset=3))
            assert await made.values() == [1, 3]
            assert await made.committed() == (3, "m3")

    asyncio.run(main())


def test_a_generation_that_is_over_commits_nothing(log: Log, implicit: bool) -> None:
    async def main() -> None:
        async with bench(log, implicit=implicit) as made:
            old = Membership(log.name, "nobody", 7, None)
            with pytest.raises(NotMember):
                await made.producer.write(made.transaction(1, 2, offset=2, membership=old))
            await made.producer.renew()
            assert await made.values() == []
            assert await made.committed() == (-1, "")

    asyncio.run(main())


def test_a_record_that_is_too_large_is_named_and_the_others_can_be_written(log: Log, implicit: bool) -> None:
    async def main() -> None:
        async with bench(log, implicit=implicit) as made:
            good = [Outgoing(made.topic, 0, b"k", b"%d" % n) for n in range(3)]
            bad = Outgoing(made.topic, 0, b"k", b"x" * SMALL_BYTES)
            transaction = Transaction(records=[*good, bad], offsets={}, membership=None)
            with pytest.raises(Refused) as batch:
                await made.producer.write(transaction)
            assert not batch.value.is_exact
            await made.producer.renew()
            with pytest.raises(Refused) as single:
                await made.producer.write(transaction, max_batch_records=1)
            assert (single.value.is_exact, list(single.value.places)) == (True, [3])
            await made.producer.renew()
            await made.producer.write(Transaction(records=good, offsets={}, membership=None))
            assert await made.values() == [0, 1, 2]

    asyncio.run(main())


def test_who_takes_over_ends_the_transaction_that_a_dead_owner_left_open(log: Log, implicit: bool) -> None:
    """Its commits name its transactional id: nobody waits for the transaction's timeout."""

    async def main() -> None:
        async with bench(log, implicit=implicit) as made:
            owner = made.producer.transactional_id
            tp = TopicPartition(made.topic, 0)
            note = write_notes("", base=4, owner=f"1.{owner}")
            first = made.transaction(1, offset=4)
            await made.producer.write(
                Transaction(records=first.records, offsets={tp: Position(4, note)}, membership=first.membership)
            )
            made.client.unsent, made.client.times = EndTxnRequest, 1_000
            with pytest.raises(TimeoutError):  # it dies with its offsets written and its end not asked for
                async with asyncio.timeout(0.5):
                    await made.producer.write(made.transaction(2, offset=9))
            async with asyncio.timeout(SOONER_S):
                assert await made.committed() == (4, note)
            assert await made.values() == [1]
            made.client.times = 0
            made.client.unsent = None

    asyncio.run(main())


def test_a_log_without_the_newer_requests_is_recognised() -> None:
    from logqueue_consumers.transactions.opening import IMPLICIT, NEEDED

    from logqueue.protocol.messages.api_versions import ApiVersion, ApiVersionsResponse, FinalizedFeatureKey

    assert what_is_missing(dict(NEEDED)) is None
    for key, version in NEEDED.items():
        reason = what_is_missing({**NEEDED, key: version - 1})
        assert reason is not None
        assert key.name in reason
    served = [ApiVersion(api_key=key, min_version=0, max_version=version) for key, version in IMPLICIT.items()]
    level = FinalizedFeatureKey(name="transaction.version", max_version_level=2, min_version_level=2)
    assert is_implicit(ApiVersionsResponse(api_keys=served, finalized_features=[level]))
    assert not is_implicit(ApiVersionsResponse(api_keys=served))
    assert not is_implicit(ApiVersionsResponse(api_keys=served[1:], finalized_features=[level]))
