"""Tells the other side what is on the log: told and confirmed first, committed then. Shell.

One consumer group per bridge, so several processes share the partitions. Whatever dies between the confirmation and the
commit is told again, under the same id: at least once, in the order of each partition.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from logqueue_schemas.job_status import InvalidStatus, StatusCodec, UnknownSchemaId

from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.errors import BrokerUnreachable, SendFailed
from logqueue.jobs.schema_source import open_registry
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import PRIORITY_NAME, TopicSpec
from logqueue_consumers.bridges.amqp_line import BrokerGone
from logqueue_consumers.bridges.pacing import FIRST_BACKOFF_S, longer, pause
from logqueue_consumers.bridges.telling import Told, told_job, told_outcome
from logqueue_consumers.topics.fetch_state import fetch_state

BATCH = 500
"""Records that are told before the offsets are committed."""
POLL_MS = 500
LOOK_MS = 10_000
"""How long a new topic of a priority class may lie unseen."""

log = structlog.get_logger(__name__)


class Sink(Protocol):
    """The other side."""

    async def open(self) -> None:
        """Connect. Raises BrokerGone, BrokerUnreachable, or what trying again does not mend."""

    async def tell(self, messages: Sequence[Told]) -> None:
        """Returns when the other side has confirmed all of them, in their order."""

    async def close(self) -> None:
        """End the connection."""


@dataclass(slots=True)
class TellerCounts:
    """What a bridge has done since its start."""

    told: int = 0


class Teller:
    """One bridge outwards. `queue` None tells outcomes, else the jobs of that queue; `name` names its group."""

    def __init__(
        self,
        settings: Settings,
        sink: Sink,
        *,
        name: str,
        queue: str | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self.counts = TellerCounts()
        self._settings = settings
        self._sink = sink
        self._queue = queue
        self._group = f"{settings.topic_prefix}logqueue.bridge.{name}"
        self._on_ready = on_ready if on_ready is not None else lambda: None
        self._registry = open_registry(settings)
        self._codec: StatusCodec | None = None
        self._has_begun = False
        self._committed: dict[TopicPartition, int] = {}
        """Where the partitions in hand were when they were committed last."""

    async def run(self, stop: asyncio.Event) -> TellerCounts:
        """Tell until `stop`. Raises what keeps it from beginning; later failures of either side are waited out."""
        backoff_s = FIRST_BACKOFF_S
        while not stop.is_set():
            told = self.counts.told
            try:
                await self._session(stop)
            except (BrokerGone, BrokerUnreachable) as error:
                if not self._has_begun:
                    raise
                log.warning("bridge waits", error=str(error))
            except (SendFailed, KafkaError, TimeoutError) as error:
                log.warning("bridge begins again", error=str(error) or type(error).__name__)
            if not stop.is_set():
                backoff_s = FIRST_BACKOFF_S if self.counts.told > told else longer(backoff_s)
                await pause(stop, backoff_s)
        return self.counts

    async def _session(self, stop: asyncio.Event) -> None:
        spec = self._spec()
        await ensure_topics(self._settings, [spec])
        if self._queue is None and self._codec is None:
            self._codec = await self._registry.status_codec()
        try:
            await self._sink.open()
            reader: AIOKafkaConsumer = await start_client(self._new_reader, self._settings)
            try:
                reader.subscribe(pattern=f"^{self._topics(spec.name)}$")
                self._has_begun = True
                self._on_ready()
                while not stop.is_set():
                    await self._round(reader)
            finally:
                await stop_client(reader)
        finally:
            await self._sink.close()

    async def _round(self, reader: AIOKafkaConsumer) -> None:
        fetched = await reader.getmany(timeout_ms=POLL_MS, max_records=BATCH)
        queues = [await self._messages(records) for records in fetched.values()]
        tellings = [self._sink.tell(queue) for queue in queues if queue]
        for result in await asyncio.gather(*tellings, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        self.counts.told += sum(map(len, queues))
        # The reader's positions are behind markers too (KIP-98): once everything is told, nothing is left.
        positions = {place: fetch_state(reader, place).position for place in reader.assignment()}
        reached = {place: at for place, at in positions.items() if at is not None and at != self._committed.get(place)}
        if not reached:
            return
        try:
            await reader.commit(reached)
        except (CommitFailedError, IllegalStateError) as error:
            # Another member has the partitions now: it tells these again, under the same ids.
            log.warning("told, not committed", error=str(error))
            return
        self._committed = {place: at for place, at in positions.items() if at is not None}

    async def _messages(self, records: Sequence[Any]) -> list[Told]:
        if self._queue is not None:
            return [told_job(record) for record in records]
        found = [await self._outcome(record) for record in records if record.value is not None]
        return [told for told in found if told is not None]

    async def _outcome(self, record: Any) -> Told | None:
        assert self._codec is not None, "the session makes it"
        try:
            try:
                return told_outcome(self._codec.decode(record.value))
            except UnknownSchemaId:
                await self._registry.refresh()
                return told_outcome(self._codec.decode(record.value))
        except InvalidStatus as error:
            log.warning("no status", partition=record.partition, offset=record.offset, error=str(error))
            return None

    def _spec(self) -> TopicSpec:
        names = self._settings.topics
        return names.status_spec() if self._queue is None else names.jobs_spec(self._queue)

    def _topics(self, topic: str) -> str:
        """A pattern of the topics that are told: of a queue those of its priority classes too."""
        return re.escape(topic) + ("" if self._queue is None else rf"(\.{PRIORITY_NAME.pattern})?")

    def _new_reader(self) -> AIOKafkaConsumer:
        return new_reader(self._settings, group_id=self._group, metadata_max_age_ms=LOOK_MS, fetch_max_wait_ms=POLL_MS)
