"""Messages of an AMQP queue become jobs: acknowledged only when the log has them. Shell.

A message that is delivered again, because the bridge or the broker died before the acknowledgement arrived, has the id
of its job in its `message_id`: the worker finishes the second record without running it (an idempotency key, so for
24 h after the job's end and whoever owns the partition). Without a `message_id` a redelivery is another job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from logqueue.clock import Clock
from logqueue.errors import LogqueueError
from logqueue.jobs.bulk import BulkSendFailed
from logqueue.jobs.client import JobClient
from logqueue.jobs.errors import BrokerUnreachable, JobTooLarge, SendFailed
from logqueue.jobs.sending import PreparedJob
from logqueue.jobs.settings import Settings
from logqueue_consumers.bridges.amqp_line import AmqpLine, BrokerGone, trouble
from logqueue_consumers.bridges.amqp_messages import Received, Target, job_of
from logqueue_consumers.bridges.pacing import FIRST_BACKOFF_S, longer, pause

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

MAX_PREFETCH = 500
"""Messages that were delivered and not acknowledged yet; one batch of the log at most."""
MAX_HELD_BYTES = 128 * 1024 * 1024
"""Of messages that may become jobs. AMQP counts messages, not bytes: those too large for the log are held beside it."""
MAX_KEPT = 100
"""Messages too large for the log that are kept unacknowledged before the bridge gives up; their bodies are let go."""
WAKE_S = 0.5

log = structlog.get_logger(__name__)


class TooManyKept(LogqueueError):
    """MAX_KEPT messages are larger than a job may be. They are back in their queue."""


@dataclass(slots=True)
class InboundCounts:
    """What a bridge has done since its start."""

    moved: int = 0
    kept: int = 0


class AmqpInbound:
    """One queue. `on_ready` is told each time that messages begin to come."""

    def __init__(
        self, settings: Settings, url: str, target: Target, *, clock: Clock, on_ready: Callable[[], None] | None = None
    ) -> None:
        self.counts = InboundCounts()
        self._settings = settings
        self._url = url
        self._target = target
        self._clock = clock
        self._on_ready = on_ready if on_ready is not None else lambda: None
        self._has_begun = False

    async def run(self, stop: asyncio.Event) -> InboundCounts:
        """Move messages until `stop`. Raises NoSuchPlace, TooManyKept, and BrokerGone if there never was a broker.

        Failures of either side are waited out; what was not acknowledged is delivered again.
        """
        backoff_s = FIRST_BACKOFF_S
        while not stop.is_set():
            moved = self.counts.moved
            try:
                await self._session(stop)
            except BrokerGone as error:
                if not self._has_begun:
                    raise
                log.warning("AMQP broker gone", error=str(error))
            except (BrokerUnreachable, SendFailed) as error:
                log.warning("the log takes no jobs", error=str(error))
            if not stop.is_set():
                backoff_s = FIRST_BACKOFF_S if self.counts.moved > moved else longer(backoff_s)
                await pause(stop, backoff_s)
        return self.counts

    async def _session(self, stop: asyncio.Event) -> None:
        line, client = AmqpLine(self._url), JobClient(self._settings, clock=self._clock)
        self.counts.kept = 0
        try:
            held = prefetch(self._settings.max_record_bytes)
            channel = await line.open(prefetch=held)
            queue = await line.find(channel.get_queue(self._target.amqp_queue), f"queue {self._target.amqp_queue!r}")
            arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue(held)
            await line.find(queue.consume(arrived.put), f"queue {self._target.amqp_queue!r}")
            self._has_begun = True
            self._on_ready()
            while not stop.is_set():
                messages = await _batch(arrived)
                if channel.is_closed:
                    raise BrokerGone("the connection ended")
                await self._move(client, messages)
        except trouble() as error:
            raise BrokerGone(str(error) or type(error).__name__) from None
        finally:
            await line.close()
            await client.close()

    async def _move(self, client: JobClient, messages: Sequence[AbstractIncomingMessage]) -> None:
        """Put their jobs on the log, then acknowledge those that it has."""
        now_ms = self._clock.time_ms()
        under_way: list[tuple[AbstractIncomingMessage, PreparedJob]] = []
        for message in messages:
            job = job_of(_received(message), self._target, now_ms=now_ms)
            try:
                client.check_size(job)
            except JobTooLarge as error:
                self._keep(message, str(error))
            else:
                under_way.append((message, job))
        try:
            handles = await client.send_many([job for _, job in under_way])
        except BulkSendFailed as error:
            await self._acknowledge(under_way, {handle.id for handle in error.confirmed})
            raise
        await self._acknowledge(under_way, {handle.id for handle in handles})

    async def _acknowledge(
        self, under_way: Sequence[tuple[AbstractIncomingMessage, PreparedJob]], confirmed: set[Any]
    ) -> None:
        for message, job in under_way:
            if job.id in confirmed:
                await message.ack()
                self.counts.moved += 1

    def _keep(self, message: AbstractIncomingMessage, reason: str) -> None:
        """Rejecting it would drop it where the queue has no dead-letter exchange: it stays unacknowledged."""
        self.counts.kept += 1
        log.error("message kept", message_id=message.message_id, bytes=len(message.body), reason=reason)
        if self.counts.kept >= MAX_KEPT:
            raise TooManyKept(f"{self.counts.kept} messages of {self._target.amqp_queue!r} are too large: {reason}")


def prefetch(max_record_bytes: int) -> int:
    """How many messages may be delivered ahead: MAX_HELD_BYTES of the largest jobs, and some beside those kept."""
    return max(MAX_KEPT + 1, min(MAX_PREFETCH, MAX_HELD_BYTES // max_record_bytes))


async def _batch(arrived: asyncio.Queue[AbstractIncomingMessage]) -> list[AbstractIncomingMessage]:
    """What has arrived, waited for a short while."""
    try:
        async with asyncio.timeout(WAKE_S):
            found = [await arrived.get()]
    except TimeoutError:
        return []
    while not arrived.empty():
        found.append(arrived.get_nowait())
    return found


def _received(message: AbstractIncomingMessage) -> Received:
    return Received(
        body=message.body,
        type=message.type or None,
        content_type=message.content_type or None,
        message_id=message.message_id or None,
        headers=dict(message.headers or {}),
        facts={
            "exchange": message.exchange,
            "routing-key": message.routing_key,
            "correlation-id": message.correlation_id,
            "reply-to": message.reply_to,
            "app-id": message.app_id,
        },
    )
