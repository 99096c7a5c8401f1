"""Texts of schemas at the registry's door: what is registered is told as it is, what could not be told is not taken."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from logqueue_api.rest.registry.desk import RegistryDesk
from logqueue_api.rest.registry.routes import RegistryRoutes
from logqueue_schemas.registry import SchemaTable
from logqueue_schemas.schema_records import Registration

from tests.loops import in_loop

ELSEWHERE = '{"type":"object","default":NaN,"title":"\\ud800"}'  # no JSON, yet a registry elsewhere may have written it


class Desk(RegistryDesk):
    """One registration, and no log."""

    def __init__(self) -> None:
        self.held = SchemaTable()
        made = Registration(subject="s", version=1, id=3, schema=ELSEWHERE, kind="JSON")
        self.held.apply(made.key(), made.value())

    async def table(self) -> SchemaTable:
        return self.held

    async def first_of(self, schema_id: int) -> Registration:
        found = self.held.first_of(schema_id)
        assert found is not None
        return found


async def ask(method: str, path: str, body: Any = None) -> httpx.Response:
    transport = httpx.ASGITransport(RegistryRoutes(Desk()).app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://registry") as client:
        return await client.request(method, path, json=body)


@pytest.mark.parametrize("path", ["/schemas/ids/3/schema", "/subjects/s/versions/1/schema"])
@in_loop
async def test_a_text_is_told_as_it_was_registered(path: str) -> None:
    found = await ask("GET", path)
    assert (found.status_code, found.text) == (200, ELSEWHERE)
    assert found.headers["content-type"] == "application/vnd.schemaregistry.v1+json"


@pytest.mark.parametrize(
    "text",
    [
        ELSEWHERE,
        '{"type":"object","default":1e999}',
        '{"type":"object","title":"\\ud800"}',
        '{"items":' * 201 + "true" + "}" * 201,
        '{"items":' * 600 + "true" + "}" * 600,
        '{"items":' * 20_000 + "true" + "}" * 20_000,
    ],
    ids=range(6),
)
@pytest.mark.parametrize("path", ["/subjects/s", "/subjects/s/versions", "/compatibility/subjects/s/versions"])
@in_loop
async def test_a_text_that_is_no_json_or_too_deep_is_an_invalid_schema(path: str, text: str) -> None:
    for kind in ("AVRO", "JSON"):
        found = await ask("POST", path, {"schema": text, "schemaType": kind})
        assert (found.status_code, found.json()["error_code"]) == (422, 42201), found.text


@in_loop
async def test_a_schema_as_deep_as_allowed_is_read() -> None:
    text = '{"items":' * 200 + "true" + "}" * 200
    found = await ask("POST", "/subjects/s", {"schema": text, "schemaType": "JSON"})
    assert found.json()["error_code"] == 40403  # it is one, and not registered
    assert json.loads(text)
