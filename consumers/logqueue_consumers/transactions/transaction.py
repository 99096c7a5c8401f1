"""One transactional producer: a session, and transactions that are opened, filled and closed in one go. Shell.

Whatever fails, the way back is the same: InitProducerId ends the open transaction and fences everything that may still
be on its way under the old epoch (KIP-98), and the caller writes again. Only EndTxn is asked again and again: whether a
commit happened must not be guessed.

| step              | `transaction.version` below 2          | 2 and above (KIP-890)                              |
|-------------------|----------------------------------------|----------------------------------------------------|
| partitions, group | AddPartitionsToTxn v0-3, AddOffsets v0-4 | none: Produce and TxnOffsetCommit add them       |
| records           | Produce v3-11                          | Produce v12                                        |
| offsets           | TxnOffsetCommit v3-4 (KIP-447)         | TxnOffsetCommit v5                                 |
| end               | EndTxn v0-4                            | EndTxn v5, which answers the next epoch            |
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Mapping
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from logqueue.clock import Clock
from logqueue.errors import ErrorCode
from logqueue.protocol.api import ApiKey
from logqueue.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from logqueue.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest, AddPartitionsToTxnTopic
from logqueue.protocol.messages.end_txn import EndTxnRequest
from logqueue.protocol.messages.init_producer_id import InitProducerIdRequest
from logqueue.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from logqueue.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from logqueue.protocol.schema import Message
from logqueue_consumers.transactions.batches import Batch, Session, build_batches
from logqueue_consumers.transactions.values import (
    Aborted,
    Membership,
    NotMember,
    Position,
    Refused,
    Transaction,
    Uncertain,
)
from logqueue_consumers.transactions.wire import GROUP as GROUP_COORDINATOR
from logqueue_consumers.transactions.wire import TRANSACTION, UNREACHED, BrokerError, LogClient

log = structlog.get_logger(__name__)

BUSY_BACKOFF_S = 0.005
"""The transaction before is still being completed: that takes milliseconds."""
FIRST_BACKOFF_S = 0.05
PRODUCE_TIMEOUT_MS = 10_000
ACKS_ALL = -1
IMPLICIT_VERSIONS = (12, 5)
"""Of Produce and TxnOffsetCommit."""

_MOVED = frozenset(
    {
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
    }
)
_BUSY = frozenset({ErrorCode.CONCURRENT_TRANSACTIONS, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS})
_RETRIABLE = frozenset(
    {
        *_MOVED,
        *_BUSY,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.NETWORK_EXCEPTION,
    }
)
_WRITTEN = frozenset({ErrorCode.NONE, ErrorCode.DUPLICATE_SEQUENCE_NUMBER})
_TOO_LARGE = frozenset({ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.RECORD_LIST_TOO_LARGE})
_REFUSED = frozenset(
    {*_TOO_LARGE, ErrorCode.TOPIC_AUTHORIZATION_FAILED, ErrorCode.INVALID_TOPIC_EXCEPTION, ErrorCode.INVALID_RECORD}
)
_NOT_MEMBER = frozenset(
    {
        ErrorCode.ILLEGAL_GENERATION,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.FENCED_INSTANCE_ID,
        ErrorCode.STALE_MEMBER_EPOCH,
    }
)


class TransactionalProducer:
    """Writes one transaction after the other under one transactional id."""

    def __init__(
        self,
        client: LogClient,
        transactional_id: str,
        *,
        clock: Clock,
        timeout_ms: int,
        compression: str,
        batch_bytes: int,
        max_backoff_s: float,
        is_implicit: bool,
    ) -> None:
        """`is_implicit` when the log's `transaction.version` is 2 or above."""
        self.transactional_id = transactional_id
        self._client = client
        self._clock = clock
        self._timeout_ms = timeout_ms
        self._compression = compression
        self._batch_bytes = batch_bytes
        self._max_backoff_s = max_backoff_s
        self._is_implicit = is_implicit
        self._session: Session | None = None
        self._is_open = False

    @property
    def is_open(self) -> bool:
        """Whether a transaction may be open in the log."""
        return self._is_open

    async def renew(self) -> None:
        """A new session; what was open is aborted. Tries until the log answers.

        Raises BrokerError where it answers that it will not have this transactional id.
        """
        self._session = None
        self._session = await init_session(
            self._client, self.transactional_id, timeout_ms=self._timeout_ms, max_backoff_s=self._max_backoff_s
        )
        self._is_open = False

    async def stop(self, *, timeout_s: float) -> None:
        """End a transaction that was cut short: whoever reads the same partitions should not wait for its timeout."""
        if not self._is_open:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self.renew()
        except (TimeoutError, KafkaError) as error:
            log.warning(
                "open transaction left to its timeout", transactional_id=self.transactional_id, error=str(error)
            )

    async def write(self, transaction: Transaction, *, max_batch_records: int | None = None) -> None:
        """Write and commit. Raises Aborted (Refused, NotMember), Uncertain; `renew` has to come next."""
        session, self._session = self._session, None
        assert session is not None, "renew() comes first"
        self._is_open = True
        try:
            await self._fill(session, transaction, max_batch_records)
        except BrokerError as error:
            raise (NotMember if error.code in _NOT_MEMBER else Aborted)(str(error)) from None
        except (*UNREACHED, KafkaError) as error:
            raise Aborted(f"no answer: {error!r}") from None
        self._session = await self._commit(session)
        self._is_open = False

    async def _fill(self, session: Session, transaction: Transaction, max_batch_records: int | None) -> None:
        batches = build_batches(
            session,
            transaction.records,
            compression=self._compression,
            batch_bytes=self._batch_bytes,
            max_records=max_batch_records,
        )
        deadline_s = self._clock.monotonic() + self._timeout_ms / 1000
        if batches and not self._is_implicit:
            await self._add_partitions(session, batches, deadline_s)
        if self._is_implicit and await self._in_one_write(session, batches, transaction):
            return
        parts: list[Coroutine[Any, Any, None]] = []
        if batches:
            parts.append(self._produce(batches, deadline_s))
        if transaction.offsets:
            parts.append(self._commit_offsets(session, transaction, deadline_s))
        results = await asyncio.gather(*parts, return_exceptions=True)
        failures = [result for result in results if result is not None]
        # That the group has gone on matters more than a record that is too large.
        for failure in sorted(failures, key=lambda found: getattr(found, "code", None) not in _NOT_MEMBER):
            raise failure

    async def _commit(self, session: Session) -> Session:
        """End the transaction; returns the session for the next one."""
        request = EndTxnRequest(
            transactional_id=self.transactional_id,
            producer_id=session.producer_id,
            producer_epoch=session.epoch,
            committed=True,
        )
        versions = (5, 5) if self._is_implicit else (0, 4)
        backoff_s = BUSY_BACKOFF_S
        while True:
            try:
                answer = await self._client.ask_coordinator(
                    TRANSACTION, self.transactional_id, request, lowest=versions[0], highest=versions[1]
                )
                code = answer.error_code
            except BrokerError as error:  # of the coordinator's lookup
                code = error.code
            except UNREACHED as error:
                log.warning("end of transaction not confirmed yet", error=repr(error))
                code = ErrorCode.COORDINATOR_NOT_AVAILABLE
            if code == ErrorCode.NONE:
                if not self._is_implicit:
                    return session
                return Session(answer.producer_id, answer.producer_epoch)
            if code not in _RETRIABLE:
                # It was aborted (took too long, was fenced), or an answer that was lost said that it happened.
                raise Uncertain(str(BrokerError(ApiKey.END_TXN, code)))
            if code in _MOVED:
                self._client.forget_coordinator(TRANSACTION, self.transactional_id)
            await asyncio.sleep(backoff_s)
            backoff_s = min(self._max_backoff_s, backoff_s * 2)

    # --- filling ---

    async def _in_one_write(
        self, session: Session, batches: Mapping[TopicPartition, list[Batch]], transaction: Transaction
    ) -> bool:
        """Records and offsets in one write, where one broker takes both: it answers in one, too.

        False if that cannot be, or not all of it was done: then it is done in its parts, which may be repeated.
        """
        membership = transaction.membership
        if membership is None or not transaction.offsets or not batches or any(len(q) > 1 for q in batches.values()):
            return False
        node = self._client.leads_and_coordinates(batches, GROUP_COORDINATOR, membership.group)
        if node is None:
            return False
        produce = self._produce_request({tp: queue[0] for tp, queue in batches.items()})
        offsets = self._offsets_request(session, transaction.offsets, membership)
        try:
            written, committed = await self._client.ask_both(node, produce, offsets, versions=IMPLICIT_VERSIONS)
        except UNREACHED:
            self._client.forget_coordinator(GROUP_COORDINATOR, membership.group)
            raise
        codes = _codes(committed) | (set(_produced(written).values()) - _WRITTEN)
        if codes & _BUSY:
            await asyncio.sleep(BUSY_BACKOFF_S)
        return not codes

    async def _add_partitions(
        self, session: Session, batches: Mapping[TopicPartition, list[Batch]], deadline_s: float
    ) -> None:
        topics: dict[str, list[int]] = defaultdict(list)
        for topic, partition in batches:
            topics[topic].append(partition)
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self.transactional_id,
            v3_and_below_producer_id=session.producer_id,
            v3_and_below_producer_epoch=session.epoch,
            v3_and_below_topics=[
                AddPartitionsToTxnTopic(name=topic, partitions=numbers) for topic, numbers in topics.items()
            ],
        )
        while True:
            answer = await self._client.ask_coordinator(
                TRANSACTION, self.transactional_id, request, lowest=0, highest=3
            )
            codes = {
                TopicPartition(topic.name, part.partition_index): part.partition_error_code
                for topic in answer.results_by_topic_v3_and_below
                for part in topic.results_by_partition
            }
            failed = {tp: code for tp, code in codes.items() if code}
            if not failed:
                return
            refused = [tp for tp, code in failed.items() if code in _REFUSED]
            if refused:
                places = [place for tp in refused for batch in batches[tp] for place in batch.places]
                error = BrokerError(ApiKey.ADD_PARTITIONS_TO_TXN, failed[refused[0]], str(refused[0]))
                raise Refused(places, error, is_exact=True)
            codes_left = set(failed.values()) - {ErrorCode.OPERATION_NOT_ATTEMPTED}
            await self._before_retry(
                ApiKey.ADD_PARTITIONS_TO_TXN, codes_left, TRANSACTION, self.transactional_id, deadline_s
            )

    async def _commit_offsets(self, session: Session, transaction: Transaction, deadline_s: float) -> None:
        membership = transaction.membership
        assert membership is not None, "offsets come with a membership"
        if not self._is_implicit:
            adding = AddOffsetsToTxnRequest(
                transactional_id=self.transactional_id,
                producer_id=session.producer_id,
                producer_epoch=session.epoch,
                group_id=membership.group,
            )
            await self._ask(TRANSACTION, self.transactional_id, adding, (0, 4), deadline_s)
        request = self._offsets_request(session, transaction.offsets, membership)
        await self._ask(
            GROUP_COORDINATOR, membership.group, request, (5, 5) if self._is_implicit else (3, 4), deadline_s
        )

    def _offsets_request(
        self, session: Session, offsets: Mapping[TopicPartition, Position], membership: Membership
    ) -> TxnOffsetCommitRequest:
        topics: dict[str, list[TxnOffsetCommitRequestPartition]] = defaultdict(list)
        for tp, position in offsets.items():
            topics[tp.topic].append(
                TxnOffsetCommitRequestPartition(
                    partition_index=tp.partition,
                    committed_offset=position.offset,
                    committed_metadata=position.metadata,
                )
            )
        return TxnOffsetCommitRequest(
            transactional_id=self.transactional_id,
            group_id=membership.group,
            producer_id=session.producer_id,
            producer_epoch=session.epoch,
            generation_id=membership.generation,
            member_id=membership.member_id,
            group_instance_id=membership.instance_id,
            topics=[TxnOffsetCommitRequestTopic(name=name, partitions=parts) for name, parts in topics.items()],
        )

    async def _ask(self, kind: int, key: str, request: Message, versions: tuple[int, int], deadline_s: float) -> None:
        """Ask a coordinator until it has done it; BrokerError when it refuses, or is busy beyond the deadline."""
        api = ApiKey(type(request).api_key or 0)
        while True:
            answer = await self._client.ask_coordinator(kind, key, request, lowest=versions[0], highest=versions[1])
            codes = _codes(answer)
            if not codes:
                return
            await self._before_retry(api, codes, kind, key, deadline_s)

    async def _before_retry(self, api: ApiKey, codes: set[int], kind: int, key: str, deadline_s: float) -> None:
        for code in codes:
            if code not in _RETRIABLE or self._clock.monotonic() >= deadline_s:
                raise BrokerError(api, code)
        if codes & _MOVED:
            self._client.forget_coordinator(kind, key)
        await asyncio.sleep(BUSY_BACKOFF_S if codes <= _BUSY else FIRST_BACKOFF_S)

    async def _produce(self, batches: Mapping[TopicPartition, list[Batch]], deadline_s: float) -> None:
        """Write every batch; those of one partition one after the other, leaders side by side."""
        left = {tp: list(reversed(queue)) for tp, queue in batches.items()}
        while left:
            nodes: dict[int, dict[TopicPartition, Batch]] = defaultdict(dict)
            for tp, queue in left.items():
                node = await self._client.leader(tp)
                if node is None:
                    raise BrokerError(ApiKey.PRODUCE, ErrorCode.LEADER_NOT_AVAILABLE, str(tp))
                nodes[node][tp] = queue[-1]
            sends = [self._produce_to(node, parts) for node, parts in nodes.items()]
            answers = await asyncio.gather(*sends) if len(sends) > 1 else [await sends[0]]
            again: set[int] = set()
            for answer in answers:
                for tp, code in answer.items():
                    if code in _WRITTEN:
                        left[tp].pop()
                    elif code in _RETRIABLE and self._clock.monotonic() < deadline_s:
                        again.add(code)
                    else:
                        raise _produce_failure(tp, code, left[tp][-1])
            left = {tp: queue for tp, queue in left.items() if queue}
            if again:
                await asyncio.sleep(BUSY_BACKOFF_S if again <= _BUSY else FIRST_BACKOFF_S)
                if not again <= _BUSY:
                    await self._client.refresh()

    async def _produce_to(self, node: int, parts: Mapping[TopicPartition, Batch]) -> dict[TopicPartition, int]:
        lowest, highest = (12, 12) if self._is_implicit else (3, 11)
        return _produced(await self._client.send(node, self._produce_request(parts), lowest=lowest, highest=highest))

    def _produce_request(self, parts: Mapping[TopicPartition, Batch]) -> ProduceRequest:
        topics: dict[str, list[PartitionProduceData]] = defaultdict(list)
        for tp, batch in parts.items():
            topics[tp.topic].append(PartitionProduceData(index=tp.partition, records=batch.content))
        return ProduceRequest(
            transactional_id=self.transactional_id,
            acks=ACKS_ALL,
            timeout_ms=PRODUCE_TIMEOUT_MS,
            topic_data=[TopicProduceData(name=name, partition_data=data) for name, data in topics.items()],
        )


async def init_session(client: LogClient, transactional_id: str, *, timeout_ms: int, max_backoff_s: float) -> Session:
    """A new producer epoch of a transactional id: its open transaction is aborted, its earlier users are fenced.

    Tries until the log answers; BrokerError where it refuses.
    """
    request = InitProducerIdRequest(transactional_id=transactional_id, transaction_timeout_ms=timeout_ms)
    backoff_s = BUSY_BACKOFF_S
    while True:
        try:
            answer = await client.ask_coordinator(TRANSACTION, transactional_id, request, lowest=0, highest=4)
            code = answer.error_code
            if not code:
                return Session(answer.producer_id, answer.producer_epoch)
        except BrokerError as error:  # of the coordinator's lookup
            code = error.code
        except UNREACHED as error:
            log.warning("transaction coordinator not reached", error=repr(error))
            code = ErrorCode.COORDINATOR_NOT_AVAILABLE
        if code not in _RETRIABLE:
            raise BrokerError(ApiKey.INIT_PRODUCER_ID, code, transactional_id)
        if code in _MOVED:
            client.forget_coordinator(TRANSACTION, transactional_id)
        await asyncio.sleep(backoff_s)
        backoff_s = min(max_backoff_s, backoff_s * 2)


def _codes(answer: Any) -> set[int]:
    """The error codes of AddOffsetsToTxn's answer (one) or TxnOffsetCommit's (one per partition)."""
    found = (
        {part.error_code for topic in answer.topics for part in topic.partitions}
        if hasattr(answer, "topics")
        else {answer.error_code}
    )
    return found - {ErrorCode.NONE}


def _produced(answer: Any) -> dict[TopicPartition, int]:
    """The error codes of Produce's answer."""
    return {
        TopicPartition(topic.name, part.index): part.error_code
        for topic in answer.responses
        for part in topic.partition_responses
    }


def _produce_failure(tp: TopicPartition, code: int, batch: Batch) -> Exception:
    error = BrokerError(ApiKey.PRODUCE, code, f"{tp.topic}/{tp.partition}")
    if code not in _REFUSED:
        return error
    return Refused(batch.places, error, is_exact=len(batch.places) == 1 or code not in _TOO_LARGE)
