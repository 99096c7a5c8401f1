"""Members of groups: aiokafka and librdkafka in classic groups, librdkafka in a group of KIP-848."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import TopicPartition as AioPartition
from aiokafka.errors import KafkaError as AioError
from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.soak.clients.confluent_producers import NO_REBOOTSTRAP
from tests.soak.clients.session import Session
from tests.soak.history import READ_COMMITTED, READ_UNCOMMITTED, Commit, CommitRead, Poll, now

POLL_SECONDS = 0.2
CALL_SECONDS = 10.0
SESSION_MS = 6_000
MAX_RECORDS = 200


class ConfluentMember:
    """A librdkafka consumer that writes down what it is given, and commits after each poll."""

    def __init__(self, session: Session, *, isolation: str, **settings: Any) -> None:
        self._session = session
        self._isolation = isolation
        self._assignment = 0
        self._numbers = count(1)
        self._consumer = Consumer(
            {
                "bootstrap.servers": session.bootstrap,
                "client.id": session.name,
                "group.id": session.role,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": isolation,
                "log_level": 0,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 300,
                "topic.metadata.refresh.interval.ms": 2000,
                "socket.timeout.ms": 10_000,
                "fetch.wait.max.ms": 200,
                **NO_REBOOTSTRAP,
                **settings,
            }
        )

    def run(self) -> None:
        session = self._session
        self._consumer.subscribe([session.topic], on_assign=self._assigned)
        try:
            while not session.stopping.is_set():
                self._poll()
        finally:
            self._consumer.close()

    def _poll(self) -> None:
        """Take what is there. A rebalance happens inside a poll, and ends what is counted as one run."""
        assignment, records = self._assignment, []
        wait = POLL_SECONDS
        while len(records) < MAX_RECORDS:
            message = self._consumer.poll(wait)
            wait = 0.0
            if self._assignment != assignment:
                self._take(assignment, records)
                assignment, records = self._assignment, []
            if message is None:
                break
            partition, offset, value = message.partition(), message.offset(), message.value()
            if message.error() is None:
                assert partition is not None and offset is not None and value is not None
                records.append((partition, offset, value.decode()))
        self._take(assignment, records)

    def _take(self, assignment: int, records: list[tuple[int, int, str]]) -> None:
        if not records:
            return
        session = self._session
        session.recorder.add(
            Poll(
                at=now(),
                client=session.name,
                group=session.role,
                assignment=assignment,
                isolation=self._isolation,
                records=tuple(records),
            )
        )
        self._commit({partition: offset + 1 for partition, offset, _ in records})

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assignment += 1
        started = now()
        try:
            found = consumer.committed(partitions, CALL_SECONDS)
        except KafkaException:
            return
        offsets = tuple((each.partition, max(each.offset, -1)) for each in found if each.error is None)
        self._session.recorder.add(
            CommitRead(started=started, at=now(), client=self._session.name, group=self._session.role, offsets=offsets)
        )

    def _commit(self, positions: dict[int, int]) -> None:
        session, started = self._session, now()
        offsets = [TopicPartition(session.topic, partition, offset) for partition, offset in positions.items()]
        commit = Commit(
            number=next(self._numbers),
            started=started,
            at=started,
            client=session.name,
            group=session.role,
            offsets=tuple(positions.items()),
            ok=None,
        )
        session.recorder.add(commit)
        try:
            answered = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException:
            return  # it may have happened, or not
        if answered is not None and not any(each.error for each in answered):
            session.recorder.add(replace(commit, at=now(), ok=True))


def run_confluent_classic(session: Session) -> None:
    settings = {
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": 500,
        "partition.assignment.strategy": "cooperative-sticky",
    }
    ConfluentMember(session, isolation=READ_COMMITTED, **settings).run()


def run_confluent_consumer(session: Session) -> None:
    ConfluentMember(session, isolation=READ_UNCOMMITTED, **{"group.protocol": "consumer"}).run()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, member: AiokafkaMember) -> None:
        self._member = member

    async def on_partitions_revoked(self, revoked: object) -> None:
        pass

    async def on_partitions_assigned(self, assigned: set[AioPartition]) -> None:
        await self._member.assigned(assigned)


class AiokafkaMember:
    """An aiokafka consumer in a classic group, eager rebalances."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._assignment = 0
        self._numbers = count(1)
        self._consumer: AIOKafkaConsumer

    async def run(self) -> None:
        while not self._session.stopping.is_set():
            self._consumer = AIOKafkaConsumer(
                bootstrap_servers=self._session.bootstrap,
                group_id=self._session.role,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                isolation_level=READ_COMMITTED,
                session_timeout_ms=SESSION_MS,
                heartbeat_interval_ms=500,
                retry_backoff_ms=50,
                request_timeout_ms=10_000,
                metadata_max_age_ms=3_000,
                fetch_max_wait_ms=200,
            )
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    await self._consumer.start()
                self._consumer.subscribe([self._session.topic], listener=_Listener(self))
                await self._consume()
            except (AioError, OSError, TimeoutError):
                continue  # a new consumer goes on
            finally:
                await self._closed()

    async def _closed(self) -> None:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await self._consumer.stop()
        except (AioError, OSError, TimeoutError):
            pass

    async def _consume(self) -> None:
        session = self._session
        while not session.stopping.is_set():
            before = self._assignment
            polled = await self._consumer.getmany(timeout_ms=int(POLL_SECONDS * 1000), max_records=MAX_RECORDS)
            records = tuple((p.partition, m.offset, m.value.decode()) for p, batch in polled.items() for m in batch)
            if not records:
                continue
            assignment = self._assignment
            if assignment != before:  # nobody can tell on which side of the rebalance these are
                self._assignment += 2
                assignment += 1
            session.recorder.add(
                Poll(
                    at=now(),
                    client=session.name,
                    group=session.role,
                    assignment=assignment,
                    isolation=READ_COMMITTED,
                    records=records,
                )
            )
            await self._commit({partition: offset + 1 for partition, offset, _ in records})

    async def assigned(self, partitions: set[AioPartition]) -> None:
        self._assignment += 1
        started, offsets = now(), []
        try:
            async with asyncio.timeout(CALL_SECONDS):
                for each in partitions:
                    found = await self._consumer.committed(each)
                    offsets.append((each.partition, -1 if found is None else found))
        except (AioError, TimeoutError):
            return
        self._session.recorder.add(
            CommitRead(
                started=started,
                at=now(),
                client=self._session.name,
                group=self._session.role,
                offsets=tuple(offsets),
            )
        )

    async def _commit(self, positions: dict[int, int]) -> None:
        session, started = self._session, now()
        commit = Commit(
            number=next(self._numbers),
            started=started,
            at=started,
            client=session.name,
            group=session.role,
            offsets=tuple(positions.items()),
            ok=None,
        )
        session.recorder.add(commit)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await self._consumer.commit({AioPartition(session.topic, p): o for p, o in positions.items()})
        except (AioError, TimeoutError):
            return  # it may have happened, or not
        session.recorder.add(replace(commit, at=now(), ok=True))


async def run_aiokafka_classic(session: Session) -> None:
    await AiokafkaMember(session).run()
