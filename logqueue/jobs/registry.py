"""The schemas of the log: reads `_schemas`, registers ours, answers what an id means. Shell over aiokafka."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from logqueue_schemas.job_status import SCHEMA, SUBJECT_SUFFIX, StatusCodec
from logqueue_schemas.registry import Registration, SchemaTable

from logqueue.errors import LogqueueError
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.connection import new_producer, new_reader, start_client, stop_client
from logqueue.jobs.settings import Settings

MAX_ROUNDS = 30  # records that one registration writes before it gives up
READ_TIMEOUT_S = 20.0


class RegistrationFailed(LogqueueError):
    """A schema could not be registered; the text says why."""


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
        self._decoders: dict[int, Callable[[memoryview], Any]] = {}

    @property
    def table(self) -> SchemaTable:
        """What has been read so far."""
        return self._table

    def schema_of(self, schema_id: int) -> Any | None:
        """The schema of an id as far as read, or None: `refresh` and ask again."""
        return self._table.schema_of(schema_id)

    def decoder_of(self, schema_id: int) -> Callable[[memoryview], Any] | None:
        """A decoder of Avro bodies of that schema id, or None (see `schema_of`)."""
        if schema_id not in self._decoders:
            schema = self._table.schema_of(schema_id)
            if schema is None:
                return None
            parsed: Any = fastavro.parse_schema(schema)
            self._decoders[schema_id] = lambda body: fastavro.schemaless_reader(BytesIO(body), parsed, None)
        return self._decoders[schema_id]

    async def refresh(self) -> None:
        """Read the schema topic up to its present end (nothing if the topic does not exist)."""
        async with self._lock:
            reader: AIOKafkaConsumer = await start_client(lambda: new_reader(self._settings), self._settings)
            try:
                await self._read_to_end(reader)
            finally:
                await stop_client(reader)

    async def register(self, subject: str, schema: Any) -> Registration:
        """The registration of a schema under a subject, made if there is none.

        Raises BrokerUnreachable or RegistrationFailed.
        """
        await ensure_topics(self._settings, [self._settings.topics.schemas_spec()])
        async with self._lock:
            reader: AIOKafkaConsumer = await start_client(lambda: new_reader(self._settings), self._settings)
            try:
                await self._read_to_end(reader)
                if self._table.missing(subject, schema):
                    await self._write(reader, subject, schema)
                found = self._table.find(subject, schema)
                assert found is not None, "what is not missing is found"
                return found
            except (KafkaError, TimeoutError) as error:
                raise RegistrationFailed(f"Schema {subject} was not registered: {error!r}") from None
            finally:
                await stop_client(reader)

    async def status_codec(self) -> StatusCodec:
        """The codec of status records, its schema registered under `<status topic>-value`."""
        subject = self._settings.topics.status + SUBJECT_SUFFIX
        registration = await self.register(subject, SCHEMA)
        return StatusCodec(registration.id, schema_of=self.schema_of)

    async def _write(self, reader: AIOKafkaConsumer, subject: str, schema: Any) -> None:
        """Write what is missing, one record at a time, reading after each what others wrote meanwhile."""
        producer: AIOKafkaProducer = await start_client(lambda: new_producer(self._settings), self._settings)
        try:
            for _ in range(MAX_ROUNDS):
                missing = self._table.missing(subject, schema)
                if not missing:
                    return
                proposal = self._table.propose(subject, missing[0])
                async with asyncio.timeout(self._settings.send_timeout_s):
                    await producer.send_and_wait(
                        self._partition.topic, key=proposal.key(), value=proposal.value(), partition=0
                    )
                await self._read_to_end(reader)
        finally:
            await stop_client(producer)
        raise RegistrationFailed(f"Schema {subject} was not registered: others interfered {MAX_ROUNDS} times")

    async def _read_to_end(self, reader: AIOKafkaConsumer) -> None:
        if not await reader_has_topic(reader, self._partition.topic):
            return
        reader.assign([self._partition])
        reader.seek(self._partition, self._position)
        async with asyncio.timeout(READ_TIMEOUT_S):
            end = (await reader.end_offsets([self._partition]))[self._partition]
            while self._position < end:
                batches = await reader.getmany(timeout_ms=500)
                for record in batches.get(self._partition, ()):
                    self._table.apply(record.key, record.value)
                self._position = await reader.position(self._partition)


async def reader_has_topic(reader: AIOKafkaConsumer, topic: str) -> bool:
    """Whether a topic exists, asked in a way that does not create it."""
    return topic in await reader.topics()
