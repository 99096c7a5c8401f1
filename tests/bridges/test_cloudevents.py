"""CloudEvents in structured mode: values of job topics, bodies of POST /v1/events, and what is told of outcomes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from logqueue_schemas.job_status import JobStatus, State, StatusError

from logqueue.jobs.cloudevents import outcome_event, read_event
from logqueue.jobs.errors import InvalidArguments, Undecodable
from tests.consumers.conftest import Log, working
from tests.loops import in_loop
from tests.rest.conftest import ApiProcess, api, kafka

__all__ = ["api", "kafka"]

STRUCTURED = "application/cloudevents+json; charset=utf-8"


def event(**changes: Any) -> dict[str, Any]:
    base = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "mail.send", "data": {"to": "a"}}
    return {name: value for name, value in (base | changes).items() if value is not None}


@in_loop
async def test_a_structured_event_in_a_job_topic_is_run_as_the_job_it_names(log: Log) -> None:
    app = log.app()
    seen: list[str] = []

    @app.job("mail.send", queue="mail")
    async def send(*, to: str) -> None:
        seen.append(to)

    async with working(app):
        topic = log.settings.topics.jobs("mail")
        headers = [("content-type", STRUCTURED.encode())]
        packed = base64.b64encode(b'{"to": "b"}').decode()
        values = [event(), event(data=None, data_base64=packed), event(type="other"), event(data={"no": 1})]
        for value in values:
            await log.produce(topic, json.dumps(value).encode(), key=b"acme", headers=headers)
        ended = await log.terminal(count=3)
    assert sorted(seen) == ["a", "b"]
    assert sorted(status.state for status in ended) == [State.DEAD, State.SUCCEEDED, State.SUCCEEDED]
    assert {(status.type, status.tenant) for status in ended} == {("mail.send", "acme")}


def test_a_posted_event_is_a_job_and_posted_again_the_same_job(api: ApiProcess) -> None:
    def post(**changes: Any) -> Any:
        body = json.dumps(event(**changes))
        return api.http.post("/v1/events", content=body, headers={"content-type": STRUCTURED})

    first = post(partitionkey="acme", expirytime="2099-01-01T00:00:00Z", unknownextension=1)
    assert first.status_code == 202, first.text
    again = post(partitionkey="acme")
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert post(partitionkey="acme", data={"to": "other"}).status_code == 409
    other = post(partitionkey="acme", source="/other")
    assert other.status_code == 202
    assert other.json()["id"] != first.json()["id"]
    job = api.job(first.json()["id"])
    assert (job["type"], job["tenant"]) == ("mail.send", "acme")


def test_an_event_in_headers_is_the_one_that_a_document_is(api: ApiProcess) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "b%201",
        "ce-source": "/shop",
        "ce-type": "mail.send",
        "ce-partitionkey": "acme",
        "content-type": "application/json",
    }
    first = api.http.post("/v1/events", content=b'{"to": "a"}', headers=headers)
    assert first.status_code == 202, first.text
    document = json.dumps(event(id="b 1", partitionkey="acme"))
    again = api.http.post("/v1/events", content=document, headers={"content-type": STRUCTURED})
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    for name, value, word in [
        ("ce-type", "", "type"),
        ("ce-specversion", "0.3", "specversion"),
    ]:
        answer = api.http.post("/v1/events", content=b'{"to": "a"}', headers=headers | {name: value})
        assert answer.status_code == 400
        assert word in answer.text
    assert api.http.post("/v1/events", content=b"<to/>", headers=headers).status_code == 400
    xml = headers | {"content-type": "text/xml"}
    assert api.http.post("/v1/events", content=b"<to/>", headers=xml).status_code == 415


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": None}, "id"),
        ({"source": ""}, "source"),
        ({"type": "nobody.knows"}, "unknown job type"),
        ({"data": [1]}, "data"),
        ({"datacontenttype": "text/xml"}, "datacontenttype"),
        ({"data": None, "data_base64": "%"}, "data_base64"),
        ({"data": {"unknown": 1}}, "unknown"),
        ({"expirytime": "soon"}, "expires_at"),
    ],
)
def test_an_event_that_is_no_job_says_why(api: ApiProcess, changes: dict[str, Any], word: str) -> None:
    answer = api.http.post("/v1/events", content=json.dumps(event(**changes)), headers={"content-type": STRUCTURED})
    assert answer.status_code == 400
    assert word in answer.text


def test_what_is_no_event_is_not_taken(api: ApiProcess) -> None:
    for type_ in ("application/json", "application/cloudevents-batch+json", "text/plain"):
        assert api.http.post("/v1/events", content=b"[]", headers={"content-type": type_}).status_code == 415
    answer = api.http.post("/v1/events", content=b"{", headers={"content-type": STRUCTURED})
    assert answer.status_code == 400
    with pytest.raises(Undecodable):
        read_event(b"\xff")
    with pytest.raises(InvalidArguments):
        read_event(b"[]")


def test_an_outcome_is_one_event_that_tells_how_the_job_ended() -> None:
    status = JobStatus(
        id="j1",
        queue="mail",
        tenant="acme",
        group="shop",
        state=State.DEAD,
        at=1_700_000_000_000_000,
        topic="jobs.mail",
        partition=0,
        offset=7,
        type="mail.send",
        error=StatusError("OSError", "no", "transient"),
    )
    found = outcome_event(status, source="/logqueue")
    assert found["id"] == "j1/0/dead"
    assert (found["type"], found["subject"], found["partitionkey"]) == ("logqueue.job.dead", "j1", "acme")
    assert found["time"] == "2023-11-14T22:13:20.000Z"
    assert found["data"]["error"] == {"type": "OSError", "message": "no", "class": "transient"}
    assert read_event(json.dumps(found).encode()).key == "/logqueue j1/0/dead"
