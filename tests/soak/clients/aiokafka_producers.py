"""Producers on aiokafka: an idempotent one, and one that sends in transactions."""

from __future__ import annotations

import asyncio
from itertools import count

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.soak.clients.session import Session
from tests.soak.history import Ack, Send, TransactionEnd, now

START_SECONDS = 30.0
SEND_SECONDS = 60.0
MAX_RECORDS = 6
ABORT_SHARE = 0.25


class _Sender:
    def __init__(self, session: Session, producer: AIOKafkaProducer, client: str) -> None:
        self._session = session
        self._producer = producer
        self._client = client
        self._numbers = count(1)

    async def send(self, transaction: str | None = None) -> asyncio.Task[None]:
        """Put one record into its batch; the task answered waits for its acknowledgement."""
        number = next(self._numbers)
        value = f"{self._client}-{number}"
        partition = self._session.any_partition()
        event = Send(
            at=now(), client=self._client, partition=partition, value=value, number=number, transaction=transaction
        )
        self._session.recorder.add(event)
        sent = await self._producer.send(self._session.topic, value.encode(), partition=partition)
        return asyncio.create_task(self._acknowledged(value, sent))

    async def _acknowledged(self, value: str, sent: asyncio.Future[object]) -> None:
        stored = await sent
        self._session.recorder.add(
            Ack(at=now(), client=self._client, value=value, partition=stored.partition, offset=stored.offset)  # type: ignore[attr-defined]
        )


async def _pace(session: Session) -> None:
    await asyncio.to_thread(session.pace)


async def _started(session: Session, transactional_id: str | None = None) -> AIOKafkaProducer | None:
    producer = AIOKafkaProducer(
        bootstrap_servers=session.bootstrap,
        enable_idempotence=True,
        transactional_id=transactional_id,
        transaction_timeout_ms=10_000,
        retry_backoff_ms=50,
        request_timeout_ms=10_000,
        metadata_max_age_ms=3_000,
    )
    try:
        async with asyncio.timeout(START_SECONDS):
            await producer.start()
    except (KafkaError, OSError, TimeoutError):
        await _closed(producer)
        return None
    return producer


async def _closed(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await producer.stop()
    except (KafkaError, OSError, TimeoutError):
        pass  # what it did not get out was not promised


async def run_idempotent(session: Session) -> None:
    for incarnation in count(1):
        producer = await _started(session)
        if producer is None:
            if session.stopping.is_set():
                return
            continue
        sender = _Sender(session, producer, f"{session.name}.{incarnation}")
        tasks: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(None) as limit:
                while not session.stopping.is_set() and not any(task.done() and task.exception() for task in tasks):
                    limit.reschedule(asyncio.get_running_loop().time() + SEND_SECONDS)
                    tasks = [task for task in tasks if not task.done() or task.exception()]
                    tasks.append(await sender.send())
                    await _pace(session)
                await asyncio.wait(tasks or [asyncio.create_task(asyncio.sleep(0))], timeout=SEND_SECONDS)
        except (KafkaError, TimeoutError):
            pass  # nothing more was promised; a new producer goes on
        await _end(tasks)
        await _closed(producer)
        if session.stopping.is_set():
            return


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def run_transactional(session: Session) -> None:
    numbers = count(1)
    for incarnation in count(1):
        producer = await _started(session, session.role)
        if producer is None:
            if session.stopping.is_set():
                return
            continue
        sender = _Sender(session, producer, f"{session.name}.{incarnation}")
        while not session.stopping.is_set():
            if not await _transaction(session, producer, sender, f"{session.name}.t{next(numbers)}"):
                break
        await _closed(producer)
        if session.stopping.is_set():
            return


async def _transaction(session: Session, producer: AIOKafkaProducer, sender: _Sender, name: str) -> bool:
    """One transaction; False if the producer is of no more use."""
    committed: bool | None = None
    tasks: list[asyncio.Task[None]] = []
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await producer.begin_transaction()
            for _ in range(session.random.randint(1, MAX_RECORDS)):
                tasks.append(await sender.send(name))
                await _pace(session)
            if session.random.random() < ABORT_SHARE:
                await producer.abort_transaction()
                committed = False
            else:
                await producer.commit_transaction()
                committed = True
            await asyncio.gather(*tasks, return_exceptions=not committed)
    except (KafkaError, TimeoutError, AssertionError):
        return False
    finally:
        session.recorder.add(TransactionEnd(at=now(), client=session.name, transaction=name, committed=committed))
        await _end(tasks)
    return True
