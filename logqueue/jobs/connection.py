"""Starting aiokafka clients with bounded patience, and ending them the same way. Shell."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from itertools import chain
from typing import Any, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import IncompatibleBrokerVersion, KafkaConnectionError, KafkaError, KafkaTimeoutError

from logqueue.jobs.errors import BrokerUnreachable
from logqueue.jobs.lean_fetch import lean
from logqueue.jobs.lean_produce import lean_produce
from logqueue.jobs.settings import Settings

MAX_BACKOFF_S = 2.0
EXPLAIN_TIMEOUT_S = 3.0  # each for connecting, TLS and an answer, once connecting has failed
STOP_TIMEOUT_S = 10.0  # for what is still on its way when a client is closed
CUT_TIMEOUT_S = 1.0  # for a client that has not stopped in that time
BATCH_BYTES = 256 * 1024
READ_WAIT_MS = 50  # aiokafka asks for offsets on the connection of its fetches: a long poll would hold them up
REQUEST_SLACK_BYTES = 64 * 1024  # what a record has on top of value, key and headers

log = logging.getLogger(__name__)


class _Startable(Protocol):
    async def start(self) -> None: ...


Client = TypeVar("Client", bound=_Startable)


async def start_client(make: Callable[[], Client], settings: Settings) -> Client:
    """Make and start a client, again and again until a broker answers.

    Raises BrokerUnreachable, with the addresses and the last error, after `connect_timeout_s` in all.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.connect_timeout_s
    backoff = settings.connect_backoff_s
    attempts = 0
    while True:
        attempts += 1
        client = make()
        reason = await _try_start(client, deadline - loop.time())
        if reason is None:
            return client
        await stop_client(client, timeout_s=1.0)
        rest = deadline - loop.time()
        if rest <= 0:
            raise BrokerUnreachable(await _explain(settings, attempts, reason))
        await asyncio.sleep(min(backoff, rest))
        backoff = min(MAX_BACKOFF_S, backoff * 2)


async def _try_start(client: _Startable, timeout_s: float) -> str | None:
    """None if it started, else why it did not; on cancellation what was begun is ended."""
    try:
        async with asyncio.timeout(max(0.05, timeout_s)):
            await begun(client.start())
    except IncompatibleBrokerVersion as error:
        await stop_client(client, timeout_s=1.0)
        raise BrokerUnreachable(f"The broker lacks what this client needs: {error}") from None
    except TimeoutError:
        return "no answer in time"
    except (KafkaError, OSError) as error:
        return _reason(error)
    except asyncio.CancelledError:
        await stop_client(client, timeout_s=1.0)
        raise
    return None


async def begun(starting: Coroutine[Any, Any, None]) -> None:
    """Await the start of a client of aiokafka, or its bootstrap.

    Cancelled while it asks for the first metadata, it forgets the connection that it asks on (0.14): nothing else
    than its frame knows that one, and it would stay open until it is collected as garbage.
    """
    try:
        await starting
    except asyncio.CancelledError as error:
        trace = error.__traceback__
        while trace is not None:
            forgotten = trace.tb_frame.f_locals.get("bootstrap_conn")
            if isinstance(forgotten, AIOKafkaConnection):
                forgotten.close()
            trace = trace.tb_next
        raise


async def stop_client(client: object, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Stop a client, waiting at most `timeout_s` for what is still on its way; then cut its connections."""
    stop = client.close if isinstance(client, AIOKafkaAdminClient) else client.stop  # type: ignore[attr-defined]
    try:
        if await ended(stop(), timeout_s=timeout_s):
            return
        log.warning("Kafka client not stopped within %g s: its unconfirmed records are given up", timeout_s)
    except KafkaError as error:
        log.warning("Kafka client ended with %s", error)
    await _cut(client, timeout_s=CUT_TIMEOUT_S)


async def ended(stopping: Coroutine[Any, Any, object], *, timeout_s: float) -> bool:
    """Whether a client of aiokafka has stopped in time; what it raised is raised.

    In a task of its own: aiokafka takes a cancellation that comes while it stops for that of its own tasks and keeps
    it, and whoever has cancelled us (a timeout, say) would wait for ever.
    """
    task = asyncio.ensure_future(stopping)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=timeout_s)
        if task.done() and not task.cancelled():
            task.exception()  # nobody is left to tell
        raise
    finally:
        is_ended = task.done()
        if not is_ended:
            task.cancel()
            await asyncio.wait({task}, timeout=CUT_TIMEOUT_S)
    if is_ended:
        task.result()
    return is_ended


async def _cut(client: object, *, timeout_s: float) -> None:
    """End a client that did not stop: aiokafka's producer waits for delivery without a bound when idempotent."""
    if isinstance(client, AIOKafkaProducer):
        await _give_up(client, timeout_s=timeout_s)
        connections = client.client
    else:
        connections = client._client  # type: ignore[attr-defined]
    await ended(connections.close(), timeout_s=timeout_s)


async def _give_up(producer: AIOKafkaProducer, *, timeout_s: float) -> None:
    """Send no more records of it.

    Whoever waits for one is told: they would wait for ever, and hold the room that the records have.
    """
    task = producer._sender.sender_task
    if task is not None:
        task.cancel()
        await asyncio.wait([task], timeout=timeout_s)
    waiting = producer._message_accumulator
    batches = [*waiting._pending_batches, *chain.from_iterable(waiting._batches.values())]
    waiting.fail_all(KafkaTimeoutError("The producer was ended before the log answered: it may have the record"))
    for batch in batches:
        if not batch._drain_waiter.cancelled():
            batch._drain_waiter.exception()  # of those who wait for room, if there are any: asyncio logs it else


def new_producer(settings: Settings, *, linger_ms: int = 0) -> AIOKafkaProducer:
    """An idempotent producer that confirms with acks=all (KIP-98: a retried batch is stored once)."""
    return lean_produce(
        AIOKafkaProducer(
            **settings.connection(),
            acks="all",
            enable_idempotence=True,
            compression_type=None if settings.compression == "none" else settings.compression,
            max_batch_size=BATCH_BYTES,
            max_request_size=max(settings.max_record_bytes, BATCH_BYTES) + REQUEST_SLACK_BYTES,
            linger_ms=linger_ms,
        )
    )


def read_nothing(reader: AIOKafkaConsumer) -> None:
    """Let go of what a reader is assigned, until it is assigned anew.

    Not by `unsubscribe`: aiokafka's fetcher, woken by an assignment that is gone by then, ends for good (0.14).
    """
    reader.assign([])


def new_reader(
    settings: Settings,
    isolation: str = "read_committed",
    *,
    group_id: str | None = None,
    fetch_max_wait_ms: int = READ_WAIT_MS,
    **options: Any,
) -> AIOKafkaConsumer:
    """A consumer that commits nothing by itself, and where it has no position begins with the oldest record.

    Aborted records do not exist for it unless `isolation` says so. Without a group its partitions are assigned, and
    positions are the caller's. Further `options` are aiokafka's.
    """
    return lean(
        AIOKafkaConsumer(
            **settings.connection(),
            group_id=group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level=isolation,
            fetch_max_wait_ms=fetch_max_wait_ms,
            **options,
        )
    )


def new_admin(settings: Settings) -> AIOKafkaAdminClient:
    """An admin client."""
    return AIOKafkaAdminClient(**settings.connection())


def _reason(error: KafkaError | OSError) -> str:
    """The error's text; aiokafka's for a failed first connection only repeats the addresses, as Python values."""
    text = str(error) or type(error).__name__
    return "cannot connect" if isinstance(error, KafkaConnectionError) and "Unable to bootstrap" in text else text


async def _explain(settings: Settings, attempts: int, reason: str) -> str:
    """The client library hides why TLS or a login failed: one more connection, of our own, finds out."""
    from logqueue.jobs.wire import NobodyThere, why_no_entry

    failure = await asyncio.to_thread(why_no_entry, settings, patience_s=EXPLAIN_TIMEOUT_S)
    if failure is None or isinstance(failure, NobodyThere):
        return _unreachable(settings, attempts, reason)
    return (
        f"The log at {settings.bootstrap} cannot be used: {failure}. "
        "LOGQUEUE_SECURITY_PROTOCOL, LOGQUEUE_SASL_* and LOGQUEUE_SSL_* say how to connect."
    )


def _unreachable(settings: Settings, attempts: int, reason: str) -> str:
    tries = f"{attempts} attempt{'s' if attempts > 1 else ''} in {settings.connect_timeout_s:g} s"
    return (
        f"No Kafka broker answers at {settings.bootstrap} ({tries}; last: {reason}). "
        "Start one with `logqueue up` or `logqueue broker`, or set LOGQUEUE_BOOTSTRAP to where it is."
    )
