"""The schemas of the log: reads `_schemas`, registers ours, answers what an id means. Shell over aiokafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from logqueue_schemas.job_status import SCHEMA, SUBJECT_SUFFIX, StatusCodec
from logqueue_schemas.registry import SchemaTable
from logqueue_schemas.schema_records import Pair, Registration

from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.avro_decoding import Decoder, Decoders
from logqueue.jobs.connection import READ_WAIT_MS, new_producer, new_reader, start_client, stop_client
from logqueue.jobs.errors import RegistrationFailed
from logqueue.jobs.schema_checks import check_next
from logqueue.jobs.schema_rules import level_of, mode_of
from logqueue.jobs.settings import Settings

MAX_ROUNDS = 30  # records that one registration writes before it gives up
READ_TIMEOUT_S = 20.0


class SchemaRegistry:
    """A client of the schema topic; its records and rules are in `logqueue_schemas.registry`.

    Lookups answer from memory; `refresh` reads what has been written since. Connections live only while one of the two
    methods that need them runs.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._partition = TopicPartition(settings.topics.schemas, 0)
        self._table = SchemaTable()
        self._position = 0
        self._lock = asyncio.Lock()
        self._decoders = Decoders(self.schema_of)

    @property
    def table(self) -> SchemaTable:
        """What has been read so far."""
        return self._table

    def schema_of(self, schema_id: int) -> Any | None:
        """The schema of an id as far as read, or None: `refresh` and ask again."""
        return self._table.schema_of(schema_id)

    def decoder_of(self, schema_id: int) -> Decoder | None:
        """A decoder of bodies of that schema id, or None (see `schema_of`)."""
        return self._decoders.of(schema_id)

    async def refresh(self) -> None:
        """Read the schema topic up to its present end (nothing if the topic does not exist)."""
        async with self._reading():
            pass

    async def register(self, subject: str, schema: Any) -> Registration:
        """The registration of a schema under a subject, made if there is none and the subject's level allows it.

        Raises BrokerUnreachable, RegistrationFailed, SchemaRefused or InvalidSchema.
        """
        async with self._changing(f"Schema {subject} was not registered") as reader:
            if self._table.find(subject, schema) is None:
                await self._check(subject, schema)
            if self._table.missing(subject, schema):
                await self._register(reader, subject, schema)
            found = self._table.find(subject, schema)
            assert found is not None, "what is not missing is found"
            return found

    async def check(self, subject: str, schema: Any) -> Registration | None:
        """The registration of a schema, None if it could be made; SchemaRefused if it could not."""
        await self.refresh()
        found = self._table.find(subject, schema)
        if found is None:
            await self._check(subject, schema)
        return found

    async def versions(self, subject: str) -> list[Registration]:
        """The versions of a subject, oldest first; empty if there is none."""
        await self.refresh()
        return self._table.versions(subject)

    async def subjects(self) -> list[str]:
        """The subjects that have a version."""
        await self.refresh()
        return self._table.subjects()

    async def change(self, decide: Callable[[SchemaTable], Sequence[Pair]]) -> None:
        """Write the records that `decide` makes of what the topic says at this moment, and read them.

        What it raises is raised here, and nothing is written. Raises BrokerUnreachable or RegistrationFailed.
        """
        async with self._changing("The schema topic took no change") as reader:
            await self._write(decide(self._table))
            await self._read_to_end(reader)

    async def status_codec(self) -> StatusCodec:
        """The codec of status records, its schema registered under `<status topic>-value`."""
        subject = self._settings.topics.status + SUBJECT_SUFFIX
        registration = await self.register(subject, SCHEMA)
        return StatusCodec(registration.id, schema_of=self.schema_of)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AIOKafkaConsumer]:
        """A reader of the schema topic, read to its end; nothing else of this client reads or writes meanwhile."""
        async with self._lock:
            reader: AIOKafkaConsumer = await start_client(lambda: new_reader(self._settings), self._settings)
            try:
                await self._read_to_end(reader)
                yield reader
            finally:
                await stop_client(reader)

    @asynccontextmanager
    async def _changing(self, failure: str) -> AsyncIterator[AIOKafkaConsumer]:
        """`_reading` of a topic that is made if need be; what the log refuses is RegistrationFailed with `failure`."""
        await ensure_topics(self._settings, [self._settings.topics.schemas_spec()])
        try:
            async with self._reading() as reader:
                yield reader
        except (KafkaError, TimeoutError) as error:
            raise RegistrationFailed(f"{failure}: {error!r}") from None

    async def _check(self, subject: str, schema: Any) -> None:
        if (mode := mode_of(self._table, subject)) == "READONLY":
            raise RegistrationFailed(f"Schema {subject} was not registered: the subject is in mode {mode}")
        level = level_of(self._table, self._settings.topics, subject)
        await check_next(subject, schema, self._table.versions(subject), level)

    async def _register(self, reader: AIOKafkaConsumer, subject: str, schema: Any) -> None:
        """Write what is missing, one record at a time, reading after each what others wrote meanwhile."""
        for _ in range(MAX_ROUNDS):
            missing = self._table.missing(subject, schema)
            if not missing:
                return
            proposal = self._table.propose(subject, missing[0])
            await self._write([(proposal.key(), proposal.value())])
            await self._read_to_end(reader)
        raise RegistrationFailed(f"Schema {subject} was not registered: others interfered {MAX_ROUNDS} times")

    async def _write(self, pairs: Sequence[Pair]) -> None:
        producer: AIOKafkaProducer = await start_client(lambda: new_producer(self._settings), self._settings)
        try:
            async with asyncio.timeout(self._settings.send_timeout_s):
                for key, value in pairs:
                    await producer.send_and_wait(self._partition.topic, key=key, value=value, partition=0)
        finally:
            await stop_client(producer)

    async def _read_to_end(self, reader: AIOKafkaConsumer) -> None:
        if not await reader_has_topic(reader, self._partition.topic):
            return
        reader.assign([self._partition])
        reader.seek(self._partition, self._position)
        async with asyncio.timeout(READ_TIMEOUT_S):
            end = (await reader.end_offsets([self._partition]))[self._partition]
            while self._position < end:
                batches = await reader.getmany(timeout_ms=READ_WAIT_MS)
                for record in batches.get(self._partition, ()):
                    self._table.apply(record.key, record.value)
                self._position = await reader.position(self._partition)


async def reader_has_topic(reader: AIOKafkaConsumer, topic: str) -> bool:
    """Whether a topic exists, asked in a way that does not create it."""
    return topic in await reader.topics()
