"""The registry's API as Confluent's own client sees it, and as bare HTTP. On every engine."""

from __future__ import annotations

import asyncio
import json
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.serialization import MessageField, SerializationContext
from logqueue_schemas.job_status import SCHEMA

from logqueue.jobs.registry import SchemaRegistry
from logqueue.jobs.settings import Settings
from tests.rest.conftest import ApiProcess, Kafka

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its OAuth library warns of its HTTP library when it is imported
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
    from confluent_kafka.schema_registry.error import SchemaRegistryError

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
NOTE = {"type": "record", "name": "Note", "fields": [{"name": "text", "type": "string"}]}
WIDER = {**NOTE, "fields": [*NOTE["fields"], {"name": "stars", "type": "int", "default": 0}]}
NARROW = {**NOTE, "fields": [{"name": "text", "type": "long"}]}


@pytest.fixture
def client(api: ApiProcess) -> Iterator[Any]:
    with SchemaRegistryClient({"url": f"{api.url}/registry"}) as made:
        yield made


@pytest.fixture
def subject() -> str:
    return f"s{time.time_ns()}"


def avro(schema: Any) -> Any:
    return Schema(json.dumps(schema), "AVRO")


def body(schema: Any, **more: Any) -> dict[str, Any]:
    return {"schema": json.dumps(schema), **more}


def fault(response: Any) -> tuple[int, int]:
    assert response.headers["content-type"] == MEDIA_TYPE
    document = response.json()
    assert set(document) == {"error_code", "message"}
    assert document["message"]
    return response.status_code, document["error_code"]


def test_confluents_serializer_writes_what_its_deserializer_reads(client: Any, api: ApiProcess, subject: str) -> None:
    context = SerializationContext(subject, MessageField.VALUE)
    value = AvroSerializer(client, json.dumps(NOTE))({"text": "hi"}, context)
    assert value[:1] == b"\0"
    with SchemaRegistryClient({"url": f"{api.url}/registry"}) as fresh:
        assert AvroDeserializer(fresh)(value, context) == {"text": "hi"}
        assert AvroDeserializer(fresh, json.dumps(WIDER))(value, context) == {"text": "hi", "stars": 0}
    assert client.get_versions(f"{subject}-value") == [1]


def test_confluents_serializer_uses_the_latest_version_where_it_must_not_register(client: Any, subject: str) -> None:
    client.register_schema(f"{subject}-value", avro(WIDER))
    conf = {"auto.register.schemas": False, "use.latest.version": True}
    context = SerializationContext(subject, MessageField.VALUE)
    value = AvroSerializer(client, json.dumps(NOTE), conf=conf)({"text": "hi"}, context)
    assert AvroDeserializer(client)(value, context) == {"text": "hi", "stars": 0}


def test_confluents_client_goes_through_the_life_of_a_subject(client: Any, subject: str) -> None:
    first = client.register_schema(subject, avro(NOTE))
    assert client.register_schema(subject, avro(NOTE)) == first
    second = client.register_schema(subject, avro(WIDER))
    assert first != second
    assert client.get_versions(subject) == [1, 2]
    latest = client.get_latest_version(subject)
    assert (latest.version, latest.schema_id, json.loads(latest.schema.schema_str)) == (2, second, WIDER)
    assert client.lookup_schema(subject, avro(NOTE)).version == 1
    assert client.get_version(subject, 1).schema_id == first
    assert json.loads(client.get_schema(first).schema_str) == NOTE
    assert [(one.subject, one.version) for one in client.get_schema_versions(second)][-1] == (subject, 2)
    assert subject in client.get_subjects()
    assert client.delete_version(subject, 1) == 1
    assert client.get_versions(subject) == [2]
    assert client.delete_subject(subject) == [2]
    assert subject not in client.get_subjects()
    assert client.delete_subject(subject, permanent=True) == [1, 2]
    with pytest.raises(SchemaRegistryError) as missing:
        client.get_versions(subject)
    assert (missing.value.http_status_code, missing.value.error_code) == (404, 40401)


def test_confluents_client_sets_levels_and_asks_for_compatibility(client: Any, subject: str) -> None:
    client.register_schema(subject, avro(NOTE))
    assert client.test_compatibility(subject, avro(WIDER))
    assert not client.test_compatibility(subject, avro(NARROW))
    assert not client.test_compatibility_all_versions(subject, avro(NARROW))
    client.set_compatibility(subject, "NONE")
    assert client.get_compatibility(subject) == "NONE"
    assert client.test_compatibility(subject, avro(NARROW))
    client.set_compatibility(subject, "FULL")
    with pytest.raises(SchemaRegistryError) as refused:
        client.register_schema(subject, avro(NARROW))
    assert refused.value.http_status_code == 409
    assert "field 'text'" in refused.value.error_message


def test_what_workers_registered_is_served_and_guarded(api: ApiProcess, kafka: Kafka) -> None:
    settings = Settings(bootstrap=kafka.bootstrap, topic_prefix=kafka.prefix)
    asyncio.run(SchemaRegistry(settings).status_codec())
    subject = f"{kafka.prefix}jobs.status-value"
    found = api.http.get(f"/registry/subjects/{subject}/versions/latest")
    assert found.status_code == 200
    assert json.loads(found.json()["schema"]) == SCHEMA
    assert fault(api.http.get(f"/registry/config/{subject}")) == (404, 40408)
    level = api.http.get(f"/registry/config/{subject}", params={"defaultToGlobal": "true"})
    assert level.json() == {"compatibilityLevel": "FULL_TRANSITIVE"}
    grown = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "more", "type": "string"}]}
    refused = api.http.post(f"/registry/subjects/{subject}/versions", json=body(grown))
    assert fault(refused) == (409, 409)
    assert "'more'" in refused.json()["message"]
    assert "version 1" in refused.json()["message"]
    jobs = api.http.get(f"/registry/config/{kafka.prefix}jobs.mail-mail.send", params={"defaultToGlobal": "true"})
    assert jobs.json() == {"compatibilityLevel": "BACKWARD_TRANSITIVE"}


def test_a_subject_is_deleted_softly_before_it_is_for_good(api: ApiProcess, subject: str) -> None:
    http, at = api.http, f"/registry/subjects/{subject}"
    http.post(f"{at}/versions", json=body(NOTE))
    assert fault(http.delete(at, params={"permanent": "true"})) == (404, 40405)
    assert fault(http.delete(f"{at}/versions/1", params={"permanent": "true"})) == (404, 40407)
    assert http.delete(f"{at}/versions/latest").json() == 1
    assert fault(http.delete(f"{at}/versions/1")) == (404, 40406)
    assert fault(http.get(f"{at}/versions/1")) == (404, 40401)
    assert http.get(f"{at}/versions/1", params={"deleted": "true"}).json()["version"] == 1
    assert fault(http.delete(at)) == (404, 40404)
    assert http.get("/registry/subjects", params={"subjectPrefix": subject, "deletedOnly": "true"}).json() == [subject]
    again = http.post(f"{at}/versions", json=body(NOTE)).json()
    assert again["version"] == 2
    assert http.delete(f"{at}/versions/1", params={"permanent": "true"}).json() == 1
    assert http.get(f"{at}/versions", params={"deleted": "true"}).json() == [2]
    assert http.get(f"/registry/schemas/ids/{again['id']}").json() == {"schema": again["schema"]}


def test_a_read_only_subject_takes_no_new_version(api: ApiProcess, subject: str) -> None:
    http, at = api.http, f"/registry/subjects/{subject}"
    http.post(f"{at}/versions", json=body(NOTE))
    assert fault(http.get(f"/registry/mode/{subject}")) == (404, 40409)
    assert http.get("/registry/mode").json() == {"mode": "READWRITE"}
    assert http.put(f"/registry/mode/{subject}", json={"mode": "READONLY"}).json() == {"mode": "READONLY"}
    assert fault(http.post(f"{at}/versions", json=body(WIDER))) == (422, 42205)
    assert fault(http.delete(at)) == (422, 42205)
    assert http.post(f"{at}/versions", json=body(NOTE)).json()["version"] == 1, "it is there already"
    assert http.delete(f"/registry/mode/{subject}").json() == {"mode": "READONLY"}
    assert http.post(f"{at}/versions", json=body(WIDER)).json()["version"] == 2
    assert fault(http.put("/registry/mode", json={"mode": "IMPORT"})) == (422, 42204)


def test_levels_of_a_subject_stand_before_the_one_for_all(api: ApiProcess, subject: str) -> None:
    http = api.http
    before = http.get("/registry/config").json()
    assert before == {"compatibilityLevel": "BACKWARD"}
    assert http.put("/registry/config", json={"compatibility": "FORWARD"}).json() == {"compatibility": "FORWARD"}
    own = f"/registry/config/{subject}"
    assert http.get(own, params={"defaultToGlobal": "true"}).json() == {"compatibilityLevel": "FORWARD"}
    http.put(own, json={"compatibility": "NONE"})
    assert http.get(own).json() == {"compatibilityLevel": "NONE"}
    assert http.delete(own).json() == {"compatibilityLevel": "NONE"}
    assert fault(http.delete(own)) == (404, 40408)
    assert http.delete("/registry/config").json() == {"compatibilityLevel": "FORWARD"}
    assert http.get("/registry/config").json() == before
    assert fault(http.put(own, json={"compatibility": "SOMEWHAT"})) == (422, 42203)


def test_bad_requests_are_told_in_the_registrys_words(api: ApiProcess, subject: str) -> None:
    http, at = api.http, f"/registry/subjects/{subject}/versions"
    assert fault(http.post(at, json={"schema": "{"})) == (422, 42201)
    assert fault(http.post(at, json={"schema": json.dumps({"type": "nope"})})) == (422, 42201)
    assert fault(http.post(at, json={"schema": 7})) == (422, 42201)
    assert fault(http.post(at, json=body(NOTE, schemaType="PROTOBUF"))) == (422, 42201)
    assert fault(http.post(at, json=body(NOTE, references=[{"name": "x", "subject": "y", "version": 1}]))) == (
        422,
        42201,
    )
    media = {"content-type": MEDIA_TYPE}
    assert fault(http.post(at, content=b"nonsense", headers=media)) == (400, 400)
    assert fault(http.post(at, content=b"[]", headers=media)) == (400, 400)
    assert fault(http.post(at, content=b" " * 1_048_577, headers=media)) == (413, 413)
    assert fault(http.get(at)) == (404, 40401)
    assert fault(http.get("/registry/schemas/ids/12")) == (404, 40403)
    assert fault(http.get("/registry/schemas/ids/x")) == (404, 404)
    assert fault(http.get("/registry/nothing")) == (404, 404)
    assert fault(http.put("/registry/subjects")) == (405, 405)
    http.post(at, json=body(NOTE))
    assert fault(http.get(f"{at}/9")) == (404, 40402)
    assert fault(http.get(f"{at}/zero")) == (422, 42202)
    assert fault(http.get(at, params={"deleted": "perhaps"})) == (400, 400)
    assert fault(http.post(f"/registry/subjects/{subject}", json=body(WIDER))) == (404, 40403)


def test_compatibility_tells_why_not_where_it_is_asked(api: ApiProcess, subject: str) -> None:
    http, at = api.http, f"/registry/compatibility/subjects/{subject}/versions"
    assert fault(http.post(f"{at}/latest", json=body(NOTE))) == (404, 40401)
    assert http.post(at, json=body(NOTE)).json() == {"is_compatible": True}, "a first version may be anything"
    http.post(f"/registry/subjects/{subject}/versions", json=body(NOTE))
    told = http.post(f"{at}/latest", json=body(NARROW), params={"verbose": "true"}).json()
    assert told["is_compatible"] is False
    assert told["messages"] == [
        "field 'text': string was written, long is read (the new schema cannot read data of version 1)"
    ]


def test_a_user_interface_finds_its_lists(api: ApiProcess, subject: str) -> None:
    http = api.http
    assert http.get("/registry/schemas/types").json() == ["AVRO", "JSON"]
    assert http.get("/registry/").json() == {}
    one, two = f"{subject}/a b", f"{subject}.z"
    for name in (one, two):
        assert http.post(f"/registry/subjects/{name.replace('/', '%2F')}/versions", json=body(NOTE)).status_code == 200
    http.post(f"/registry/subjects/{two}/versions", json=body(WIDER))
    assert http.get("/registry/subjects", params={"subjectPrefix": subject}).json() == sorted([one, two])
    assert http.get("/registry/subjects", params={"subjectPrefix": subject, "limit": 1, "offset": 1}).json() == [
        max(one, two)
    ]
    latest = http.get("/registry/schemas", params={"subjectPrefix": subject, "latestOnly": "true"}).json()
    assert {(found["subject"], found["version"]) for found in latest} == {(one, 1), (two, 2)}
    found = http.get(f"/registry/subjects/{two}/versions/2").json()
    assert set(found) == {"subject", "version", "id", "schemaType", "schema"}
    assert http.get(f"/registry/subjects/{two}/versions/2/schema").json() == WIDER
    assert two in http.get(f"/registry/schemas/ids/{found['id']}/subjects").json()
    assert http.get(f"/registry/subjects/{one.replace('/', '%2F')}/versions").json() == [1]


def test_every_change_is_kept_with_who_and_when(api: ApiProcess, subject: str) -> None:
    http, at, ann = api.http, f"/registry/subjects/{subject}", {"X-Logqueue-Actor": "ann"}
    made = http.post(f"{at}/versions", json=body(NOTE), headers=ann).json()
    http.post(f"{at}/versions", json=body(NOTE))  # no change
    http.post(f"{at}/versions", json=body(NARROW))  # refused
    http.put(f"/registry/config/{subject}", json={"compatibility": "NONE"}, headers=ann)
    http.put(f"/registry/mode/{subject}", json={"mode": "READONLY"}, headers=ann)
    http.delete(at)  # refused
    http.delete(f"/registry/mode/{subject}", headers=ann)
    http.delete(at)
    items = http.get("/v1/audit", params={"subject": subject}).json()["items"]
    assert [(one["event"], one["by"], one["value"]) for one in reversed(items)] == [
        ("schema.register", "ann", {"version": 1, "id": made["id"], "schemaType": "AVRO"}),
        ("schema.level", "ann", {"level": "NONE"}),
        ("schema.mode", "ann", {"mode": "READONLY"}),
        ("schema.mode", "ann", {"mode": None}),
        ("schema.delete", "127.0.0.1", {"versions": [1], "permanent": False}),
    ]
    assert all(one["at"] for one in items)


def test_the_documentation_of_the_api_has_the_registry(api: ApiProcess) -> None:
    document = api.http.get("/openapi.json").json()
    found = {path: set(said) for path, said in document["paths"].items() if path.startswith("/registry/")}
    assert found["/registry/subjects/{subject}/versions"] == {"get", "post"}
    assert found["/registry/subjects/{subject}/versions/{version}"] == {"get", "delete"}
    assert found["/registry/config/{subject}"] == {"get", "put", "delete"}
    register = document["paths"]["/registry/subjects/{subject}/versions"]["post"]
    assert register["requestBody"]["content"]["application/json"]["schema"]["required"] == ["schema"]
    ids = [each["operationId"] for path in found for each in document["paths"][path].values()]
    assert len(ids) == len(set(ids))


def test_the_calls_of_kafbat_ui_are_answered(api: ApiProcess, subject: str) -> None:
    """Those of its contract: kafka-sr-api.yaml."""
    http, at = api.http, f"/registry/subjects/{subject}"
    made = http.post(f"{at}/versions", json=body(NOTE, schemaType="AVRO", references=[]))
    assert isinstance(made.json()["id"], int)
    assert subject in http.get("/registry/subjects").json()
    assert http.get("/registry/subjects", params={"subjectPrefix": subject, "deleted": "false"}).json() == [subject]
    assert http.get(f"{at}/versions").json() == [1]
    shown = http.get(f"{at}/versions/latest", params={"deleted": "false"}).json()
    assert {"id", "subject", "version", "schema", "schemaType"} <= set(shown)
    assert http.get("/registry/config").json() == {"compatibilityLevel": "BACKWARD"}
    assert http.put("/registry/config", json={"compatibility": "BACKWARD"}).json() == {"compatibility": "BACKWARD"}
    own = f"/registry/config/{subject}"
    assert http.get(own, params={"defaultToGlobal": "true"}).json() == {"compatibilityLevel": "BACKWARD"}
    assert http.put(own, json={"compatibility": "FULL"}).json() == {"compatibility": "FULL"}
    wider = body(WIDER, schemaType="AVRO")
    asked = http.post(
        f"/registry/compatibility/subjects/{subject}/versions/latest", json=wider, params={"verbose": True}
    )
    assert asked.json() == {"is_compatible": True, "messages": []}
    assert http.delete(own).status_code == 200
    assert http.delete(f"{at}/versions/1", params={"permanent": "false"}).status_code == 200
    assert http.delete(at, params={"permanent": "true"}).status_code == 200


def test_json_schemas_live_beside_avro_ones(api: ApiProcess, subject: str) -> None:
    http, at = api.http, f"/registry/subjects/{subject}"
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    made = http.post(f"{at}/versions", json=body(schema, schemaType="JSON")).json()
    assert http.get(f"/registry/schemas/ids/{made['id']}").json()["schemaType"] == "JSON"
    assert http.get(f"{at}/versions/1").json()["schemaType"] == "JSON"
    assert http.post(at, json=body(schema, schemaType="JSON")).json()["version"] == 1
    wider = {**schema, "properties": {**schema["properties"], "b": {"type": "integer"}}}
    assert http.post(f"{at}/versions", json=body(wider, schemaType="JSON")).json()["version"] == 2
    refused = http.post(f"{at}/versions", json=body({**wider, "required": ["b"]}, schemaType="JSON"))
    assert fault(refused) == (409, 409)
    assert "field 'b': it is required" in refused.json()["message"]
    assert fault(http.post(f"{at}/versions", json=body(NOTE))) == (409, 409), "it is of another type"
    assert fault(http.post(f"{at}/versions", json=body({"type": "nope"}, schemaType="JSON"))) == (422, 42201)
