"""Confluent's serializers with their own registry client put jobs on the log, and read ours. On every engine."""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka.serialization import MessageField, SerializationContext
from logqueue_schemas.job_status import JobStatus

from logqueue.jobs.settings import Settings
from tests.consumers.conftest import Log, until, working
from tests.guide.page import DOCS, files, module_source
from tests.rest.conftest import ApiProcess, Kafka

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its OAuth library warns of its HTTP library when it is imported
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
    from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer

EMAIL: dict[str, Any] = {"type": "record", "name": "Email", "fields": [{"name": "to", "type": "string"}]}
WIDER = {**EMAIL, "fields": [*EMAIL["fields"], {"name": "cc", "type": "string", "default": "none"}]}
NOTE = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Note",
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}


class Note(msgspec.Struct):
    text: str
    stars: int = 0


@pytest.fixture
def log(kafka: Kafka) -> Log:
    return Log(Settings(bootstrap=kafka.bootstrap, topic_prefix=kafka.prefix), kafka.prefix.rstrip("."))


async def ended(log: Log, queue: str, *, count: int) -> list[JobStatus]:
    async def look() -> list[JobStatus]:
        return [status for status in await log.statuses() if status.queue == queue and status.is_terminal]

    return await until(look, lambda found: len(found) >= count)


def test_avro_of_confluents_serializer_is_a_job_and_ours_is_read_by_its_deserializer(
    api: ApiProcess, kafka: Kafka, log: Log, tmp_path: Path
) -> None:
    path = tmp_path / "email.avsc"
    path.write_text(json.dumps(WIDER))
    app = log.app()

    @app.job("email.send", queue="emails", arguments=path)
    async def send(to, cc):  # type: ignore[no-untyped-def]
        return f"{to}, {cc}"

    subject = f"{kafka.prefix}jobs.emails-email.send"
    topic = f"{kafka.prefix}jobs.emails"
    context = SerializationContext(topic, MessageField.VALUE)

    def produce(client: Any) -> None:
        conf = {"subject.name.strategy": lambda *_: subject}
        value = AvroSerializer(client, json.dumps(EMAIL), conf=conf)({"to": "Ann"}, context)
        kafka.send("jobs.emails", value, key="acme", headers={"ce_type": "email.send"})

    async def main(client: Any) -> tuple[list[JobStatus], list[Any]]:
        await asyncio.to_thread(produce, client)  # the older version is there first
        async with working(app):
            await send.send(to="Bob", cc="Cid")
            return await ended(log, "emails", count=2), await log.read(topic)

    with SchemaRegistryClient({"url": f"{api.url}/registry"}) as client:
        found, records = asyncio.run(main(client))
        assert sorted((str(one.state), one.result) for one in found) == [
            ("succeeded", b'"Ann, none"'),
            ("succeeded", b'"Bob, Cid"'),
        ]
        read = [AvroDeserializer(client, json.dumps(WIDER))(record.value, context) for record in records]
        assert sorted(read, key=str) == [{"to": "Ann", "cc": "none"}, {"to": "Bob", "cc": "Cid"}]
        assert client.get_versions(subject) == [1, 2]


def test_json_of_confluents_serializer_is_a_job(api: ApiProcess, kafka: Kafka, log: Log) -> None:
    app = log.app()

    @app.job("note.keep", queue="notes")
    async def keep(note: Note) -> str:
        return f"{note.text} {note.stars}"

    topic = f"{kafka.prefix}jobs.notes"
    context = SerializationContext(topic, MessageField.VALUE)
    wrong = {**NOTE, "properties": {"text": {"type": "string"}, "stars": {"type": "string"}}}

    def produce(client: Any) -> list[Any]:
        values = [
            JSONSerializer(json.dumps(NOTE), client)({"text": "hi"}, context),
            JSONSerializer(json.dumps(wrong), client)({"text": "hi", "stars": "many"}, context),
        ]
        for value in values:
            kafka.send("jobs.notes", value, key="acme", headers={"ce_type": "note.keep"})
        return values

    async def main(client: Any) -> tuple[list[Any], list[JobStatus]]:
        async with working(app):
            values = await asyncio.to_thread(produce, client)
            return values, await ended(log, "notes", count=2)

    with SchemaRegistryClient({"url": f"{api.url}/registry"}) as client:
        values, found = asyncio.run(main(client))
    assert {str(one.state): one.result for one in found} == {"succeeded": b'"hi 0"', "dead": None}
    with SchemaRegistryClient({"url": f"{api.url}/registry"}) as fresh:
        assert JSONDeserializer(None, schema_registry_client=fresh)(values[0], context) == {"text": "hi"}
        assert fresh.get_latest_version(f"{topic}-value").schema.schema_type == "JSON"


def test_the_example_of_the_documentation_puts_a_job_on_the_log(
    api: ApiProcess, kafka: Kafka, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = DOCS / "schemas.md"
    for name, text in {**files(page), "schemas_page.py": module_source(page)}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    module = import_module("schemas_page")

    async def main() -> list[JobStatus]:
        app = log.app()
        app.job("email.send", queue="letters")(module.send_email.handler)
        async with working(app):
            topic = f"{kafka.prefix}jobs.letters"
            await asyncio.to_thread(module.produce, kafka.bootstrap, f"{api.url}/registry", topic)
            return await ended(log, "letters", count=1)

    try:
        assert [status.result for status in asyncio.run(main())] == [b'"1 to ann@example.com"']
    finally:
        del sys.modules["schemas_page"]
