"""JSON that is deeper than answers can be (254 levels): refused at the door, and shown as text where the log has it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest
from logqueue_api.rest.app import build_app
from logqueue_api.rest.catalogue import Catalogue
from logqueue_api.rest.letter_requests import ReplayRequest, edit_of
from logqueue_api.rest.problems import Problem

from logqueue.clock import ManualClock
from logqueue.jobs.control import ControlState
from logqueue.jobs.topics import TopicNames
from tests.loops import in_loop
from tests.rest.test_direct import services

DEEP = "[" * 250 + "]" * 250
"""orjson reads and writes it, and does not write it where a list holds it."""
BIG = str(2**70)


class _Log:
    """What the log has, to the API, and what it is to have."""

    def __init__(self, control: dict[str, str], schedules: dict[str, str], audit: list[str]) -> None:
        self.written: list[Any] = []
        self.control = ControlState()
        for key, value in control.items():
            self.control.apply(key.encode(), value.encode())
        self._schedules = {key: value.encode() for key, value in schedules.items()}
        self._audit = [SimpleNamespace(value=value.encode(), offset=7) for value in audit]

    async def write(self, commands: list[Any]) -> None:
        self.written += commands

    async def topics(self) -> set[str]:
        return {TopicNames("").audit}

    async def read(self, *place: Any, **how: Any) -> Any:
        return SimpleNamespace(records=self._audit)

    async def query(self, look: Any) -> Any:
        return look(SimpleNamespace(schedules=lambda: self._schedules))


async def ask(log: _Log, method: str, path: str, body: str | None = None) -> httpx.Response:
    parts: Any = services()
    parts.clock = ManualClock()
    parts.cluster = log
    parts.operator = SimpleNamespace(writer=log)
    parts.control.tail = SimpleNamespace(state=log.control)
    parts.view = SimpleNamespace(query=log.query, catalogue=Catalogue({}))
    parts.limits = SimpleNamespace(max_body_bytes=10_000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(build_app(parts)), base_url="http://api") as client:
        return await client.request(method, path, content=body, headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/kills:set", '{"name":"k","type":"t","force":true,"arguments":{"a":%s}}', "arguments"),
        ("/v1/schedules/nightly:set", '{"type":"t","every":60,"args":{"a":%s}}', "args"),
    ],
)
@in_loop
async def test_arguments_that_no_list_could_show_are_refused(path: str, body: str, field: str) -> None:
    log = _Log({}, {}, [])
    answer = await ask(log, "POST", path, body % DEEP)
    assert (answer.status_code, log.written) == (400, [])
    assert answer.json()["errors"] == [{"field": field, "detail": "nested too deep"}]


def test_other_arguments_of_a_letter_are_refused_too() -> None:
    asked = ReplayRequest.model_validate({"ids": ["one"], "args": {"a": orjson.loads("[" * 252 + "]" * 252)}})
    with pytest.raises(Problem, match="nested too deep"):
        edit_of(asked, "mail", services())


@pytest.mark.parametrize("value", [DEEP, BIG])
@in_loop
async def test_what_the_log_has_all_the_same_is_shown_as_text(value: str) -> None:
    kill = '{"by":"ann","at":1,"type":"t","arguments":{"a":' + value + "}}"
    schedule = '{"name":"nightly","type":"t","queue":"mail","every_ms":60000,"arguments":{"a":' + value + "}}"
    log = _Log(
        {"kill/deep": kill, "kill/plain": '{"type":"t","arguments":{"a":1}}'},
        {"schedule/nightly": '{"schedule":' + schedule + "}"},
        ['{"event":"kill","subject":"deep","by":"ann","at":1,"value":' + kill + "}"],
    )
    answer = await ask(log, "GET", "/v1/kills")
    assert answer.status_code == 200, answer.text
    deep, plain = [item["value"]["arguments"] for item in answer.json()["items"]]
    assert (json.loads(deep), plain) == ({"a": json.loads(value)}, {"a": 1})

    answer = await ask(log, "GET", "/v1/schedules")
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.json()["items"][0]["arguments"]["a"]) == json.loads(value)

    answer = await ask(log, "GET", "/v1/audit")
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()["items"]
    assert (item["subject"], item["by"]) == ("deep", "ann")
