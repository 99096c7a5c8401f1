"""Reads a group's committed offsets with their metadata, which aiokafka's consumer hides. Shell.

OffsetFetch v7 is asked for stable offsets only (KIP-447): while the transaction of a worker that held a partition
before is undecided, what it committed is not known. A worker that is gone cannot decide it any more. Its commits name
its transactional id, so whoever takes over ends that transaction, as `Admin.fenceProducers` does, instead of waiting
for its timeout.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from logqueue.errors import ErrorCode
from logqueue.jobs.connection import start_client
from logqueue.jobs.errors import BrokerUnreachable
from logqueue.jobs.settings import Settings
from logqueue.protocol.api import ApiKey
from logqueue.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestTopic
from logqueue_consumers.commits.notes import read_notes
from logqueue_consumers.transactions.wire import GROUP, BrokerError, LogClient

log = structlog.get_logger(__name__)

FIRST_BACKOFF_S = 0.05
REQUEST_TIMEOUT_S = 10.0
UNSTABLE_BACKOFF_S = 0.02
MAX_UNSTABLE_BACKOFF_S = 0.5

Committed = Mapping[TopicPartition, tuple[int, str]]


class OffsetReader:
    """One connection, opened when it is needed and again when it broke."""

    def __init__(self, settings: Settings, *, max_backoff_s: float, transaction_timeout_ms: int) -> None:
        self._settings = settings
        self._max_backoff_s = max_backoff_s
        self._transaction_timeout_ms = transaction_timeout_ms
        self.own_id: str | None = None
        """This worker's transactional id: it ends its transactions itself."""
        self._client: LogClient | None = None
        self._lock = asyncio.Lock()

    async def read(self, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        """Offset and metadata of each partition, -1 and empty where nothing was committed.

        Waits until none is undecided, and ends the transactions of former owners that left without a word. Tries until
        the log answers; callers cancel when the answer is no longer of use.
        """
        wanted = list(partitions)
        found: dict[TopicPartition, tuple[int, str]] = {}
        ended: set[str | None] = {None, self.own_id}
        backoff_s, unstable_backoff_s = FIRST_BACKOFF_S, UNSTABLE_BACKOFF_S
        async with self._lock:
            while wanted:
                try:
                    client = await self._connected()
                    async with asyncio.timeout(REQUEST_TIMEOUT_S):
                        stable, unstable = await self._fetch(client, group, wanted, is_stable=True)
                        found |= stable
                        last, _ = await self._fetch(client, group, unstable, is_stable=False) if unstable else ({}, [])
                        await self._end_transactions(client, {**stable, **last}, ended)
                    if not unstable:
                        return found
                    wanted = unstable
                    await asyncio.sleep(unstable_backoff_s)
                    unstable_backoff_s = min(MAX_UNSTABLE_BACKOFF_S, unstable_backoff_s * 2)
                except (KafkaError, BrokerUnreachable, TimeoutError, OSError) as error:
                    log.warning("committed offsets not read", group=group, error=repr(error))
                    await self._close()
                    await asyncio.sleep(backoff_s)
                    backoff_s = min(self._max_backoff_s, backoff_s * 2)
        return found

    async def stop(self) -> None:
        """Close the connection."""
        await self._close()

    async def _fetch(
        self, client: LogClient, group: str, wanted: Iterable[TopicPartition], *, is_stable: bool
    ) -> tuple[dict[TopicPartition, tuple[int, str]], list[TopicPartition]]:
        """What is committed, and the partitions of which the log does not say it yet."""
        topics: dict[str, list[int]] = defaultdict(list)
        for tp in wanted:
            topics[tp.topic].append(tp.partition)
        request = OffsetFetchRequest(
            group_id=group,
            topics=[OffsetFetchRequestTopic(name=name, partition_indexes=numbers) for name, numbers in topics.items()],
            require_stable=is_stable,
        )
        answer = await client.ask_coordinator(GROUP, group, request, lowest=2, highest=7)
        codes = {answer.error_code} | {part.error_code for topic in answer.topics for part in topic.partitions}
        failed = codes - {ErrorCode.NONE, ErrorCode.UNSTABLE_OFFSET_COMMIT}
        if failed:
            client.forget_coordinator(GROUP, group)
            raise BrokerError(ApiKey.OFFSET_FETCH, failed.pop(), group)
        parts = [
            (TopicPartition(topic.name, part.partition_index), part)
            for topic in answer.topics
            for part in topic.partitions
        ]
        committed = {tp: (part.committed_offset, part.metadata or "") for tp, part in parts if not part.error_code}
        return committed, [tp for tp, part in parts if part.error_code]

    async def _end_transactions(self, client: LogClient, committed: Committed, ended: set[str | None]) -> None:
        from logqueue_consumers.transactions.transaction import init_session  # seldom needed; start-up is imports

        for offset, metadata in committed.values():
            notes = read_notes(metadata, base=offset)
            if not notes.has_crashed or notes.owner in ended:
                continue
            assert notes.owner is not None, "None is in `ended`"
            ended.add(notes.owner)
            log.info("ending the transactions of a worker that is gone", transactional_id=notes.owner)
            try:
                await init_session(
                    client,
                    notes.owner,
                    timeout_ms=self._transaction_timeout_ms,
                    max_backoff_s=self._max_backoff_s,
                )
            except BrokerError as error:
                log.warning("not ended: they run into their timeout", error=str(error))

    async def _connected(self) -> LogClient:
        if self._client is None:
            self._client = await start_client(lambda: LogClient(self._settings), self._settings)
        return self._client

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.stop()
