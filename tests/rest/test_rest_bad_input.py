"""Bad input over HTTP: a problem document that names the fault, and nothing enqueued."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from tests.rest.conftest import ApiProcess, Kafka

JSON = {"content-type": "application/json"}
GOOD = {"type": "mail.send", "args": {"to": "x"}}


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    return document


@pytest.fixture
def untouched(api: ApiProcess, kafka: Kafka) -> Iterator[None]:
    """Nothing is enqueued while the test runs."""
    api.job(api.http.post("/v1/jobs", json=GOOD).json()["id"])
    before = [kafka.end("jobs.mail", partition) for partition in range(16)]
    yield
    assert [kafka.end("jobs.mail", partition) for partition in range(16)] == before


@pytest.mark.parametrize(
    "body", [b"", b"   ", b"{", b"[1]", b'"text"', b"null", b"\xff", b'{"type": NaN}', b"[" * 5_000]
)
@pytest.mark.usefixtures("untouched")
def test_a_body_that_is_no_json_object_is_refused(api: ApiProcess, body: bytes) -> None:
    assert problem(api.http.post("/v1/jobs", content=body, headers=JSON), 400)["errors"][0]["field"] == "body"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["type"]),
        ({"type": ""}, ["type"]),
        ({"type": 7}, ["type"]),
        ({"type": "no.such"}, ["type"]),
        ({"queue": "push"}, ["type"]),
        ({"queue": "UPPER", "type": "mail.send"}, ["queue"]),
        ({**GOOD, "queue": "push"}, ["queue"]),
        ({**GOOD, "tenant": ""}, ["tenant"]),
        ({**GOOD, "tenant": "x" * 300}, ["tenant"]),
        ({**GOOD, "id": ""}, ["id"]),
        ({**GOOD, "id": "a\nb"}, ["id"]),
        ({**GOOD, "args": []}, ["args"]),
        ({**GOOD, "colour": "red"}, ["colour"]),
        ({"type": "mail.send"}, ["args.to"]),
        ({"type": "mail.send", "args": {"to": 5}}, ["args.to"]),
        ({"type": "mail.send", "args": {"to": "x", "copies": "two"}}, ["args.copies"]),
        ({"type": "mail.send", "args": {"to": "x", "at": "soon"}}, ["args.at"]),
        ({"type": "mail.send", "args": {"to": "x", "body": 1, "x": 2}}, ["args.body", "args.x"]),
        ({**GOOD, "delay": "soon"}, ["delay"]),
        ({**GOOD, "delay": -1}, ["delay"]),
        ({**GOOD, "run_at": "2026-01-01T00:00:00"}, ["run_at"]),
        ({**GOOD, "delay": 1, "run_at": "2030-01-01T00:00:00Z"}, ["run_at"]),
        ({**GOOD, "expires_at": "2020-01-01T00:00:00Z"}, ["expires"]),
        ({**GOOD, "expires_in": 1, "delay": 5}, ["expires"]),
    ],
)
@pytest.mark.usefixtures("untouched")
def test_a_fault_names_its_fields_and_enqueues_nothing(api: ApiProcess, body: Any, fields: list[str]) -> None:
    document = problem(api.http.post("/v1/jobs", json=body), 400)
    assert [error["field"] for error in document["errors"]] == fields, document


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("/v1/jobs", {**GOOD, "args": []}, "args: must be an object"),
        ("/v1/jobs", {**GOOD, "tenant": ""}, "tenant: must not be empty"),
        ("/v1/jobs", {**GOOD, "colour": "red"}, "colour: unknown field"),
        ("/v1/jobs", {**GOOD, "delay": -1}, "delay: must be 0 or more or text"),
        ("/v1/jobs", {**GOOD, "delay": []}, "delay: must be a number or text"),
        ("/v1/jobs:batch", {}, "jobs: missing"),
        ("/v1/jobs:batch", {"jobs": []}, "jobs: must hold at least 1 job"),
        ("/v1/jobs:batch", {"jobs": [1]}, "jobs.0: must be an object"),
        ("/v1/dlq/mail:replay", {"limit": 0}, "limit: must be 1 or more"),
        ("/v1/dlq/mail:replay", {"ids": "x"}, "ids: must be a list"),
    ],
)
@pytest.mark.usefixtures("untouched")
def test_a_fault_is_told_in_plain_words(api: ApiProcess, path: str, body: Any, detail: str) -> None:
    assert problem(api.http.post(path, json=body), 400)["detail"] == detail


@pytest.mark.usefixtures("untouched")
def test_an_unknown_type_is_told_what_is_known(api: ApiProcess) -> None:
    document = problem(api.http.post("/v1/jobs", json={"type": "mail.sent"}), 400)
    assert document["type"] == "urn:logqueue:unknown-job-type"
    assert "mail.send" in document["detail"]


@pytest.mark.usefixtures("untouched")
def test_a_body_that_is_too_large_is_refused_before_it_is_read(api: ApiProcess) -> None:
    body = b'{"type": "mail.send", "args": {"to": "' + b"x" * 1_100_000 + b'"}}'
    problem(api.http.post("/v1/jobs", content=body, headers=JSON), 413)
    # Without a length the body is cut off at the limit.
    problem(api.http.post("/v1/jobs", content=iter([body[:600_000], body[600_000:]]), headers=JSON), 413)


@pytest.mark.usefixtures("untouched")
def test_a_job_larger_than_a_record_may_be_is_refused(api: ApiProcess) -> None:
    problem(api.http.post("/v1/jobs", json={"type": "mail.send", "args": {"to": "x" * 1_000_001}}), 413)


@pytest.mark.usefixtures("untouched")
def test_a_batch_of_too_many_jobs_is_refused(api: ApiProcess) -> None:
    problem(api.http.post("/v1/jobs:batch", json={"jobs": [GOOD] * 51}), 413)


@pytest.mark.parametrize("body", [{}, {"jobs": []}, {"jobs": [1]}, {"jobs": 5}, [], {"jobs": [GOOD], "x": 1}])
@pytest.mark.usefixtures("untouched")
def test_a_batch_of_another_shape_is_refused(api: ApiProcess, body: Any) -> None:
    problem(api.http.post("/v1/jobs:batch", json=body), 400)


@pytest.mark.usefixtures("untouched")
def test_the_same_id_twice_in_a_batch_is_refused(api: ApiProcess) -> None:
    jobs = [{**GOOD, "id": "same"}, {**GOOD, "id": "same"}]
    document = problem(api.http.post("/v1/jobs:batch", json={"jobs": jobs}), 400)
    assert document["errors"][0]["field"] == "jobs.1.id"


@pytest.mark.parametrize(
    "media",
    [None, "", "text/plain", "text/plain; a=application/json", "application/x-www-form-urlencoded", "application/xml"],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs:batch", "/v1/dlq/mail:replay"])
@pytest.mark.usefixtures("untouched")
def test_only_json_is_taken_so_that_no_web_page_can_enqueue(api: ApiProcess, path: str, media: str | None) -> None:
    body = b'{"jobs": [{"type": "mail.send", "args": {"to": "x"}}]}' if "batch" in path else orjson.dumps(GOOD)
    headers = {} if media is None else {"content-type": media}
    document = problem(api.http.post(path, content=body, headers=headers), 415)
    assert "-H 'content-type: application/json'" in document["detail"]


@pytest.mark.parametrize("media", ["Application/JSON; charset=utf-8", "application/cloudevents+json"])
def test_json_is_taken_under_each_of_its_names(api: ApiProcess, media: str) -> None:
    answer = api.http.post("/v1/jobs", content=orjson.dumps(GOOD), headers={"content-type": media})
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"state": "happy"}, "state"),
        ({"limit": "0"}, "limit"),
        ({"limit": "100000"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-01-01T00:00:00"}, "until"),
        ({"cursor": "%%%"}, "cursor"),
        ({"cursor": "AAAA"}, "cursor"),
        ({"min_position": "here"}, "min_position"),
        ({"min_position": "t-1-99999999999999999999"}, "min_position"),
    ],
)
def test_a_bad_query_names_its_parameter(api: ApiProcess, query: dict[str, str], field: str) -> None:
    assert problem(api.http.get("/v1/jobs", params=query), 400)["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/v1/jobs", "state"),
        ("/v1/jobs/x", "min_position"),
        ("/v1/jobs/x/events", "group"),
        ("/v1/events", None),
        ("/v1/queues", "group"),
        ("/v1/groups", None),
        ("/v1/groups/x", None),
        ("/v1/topics", None),
        ("/v1/topics/x", None),
        ("/v1/topics/x/records", "offset"),
        ("/v1/dlq", None),
        ("/v1/dlq/mail", "error_class"),
        ("/v1/dlq/mail/x", "group"),
    ],
)
def test_an_unknown_query_parameter_is_named_with_those_that_are_known(
    api: ApiProcess, path: str, known: str | None
) -> None:
    document = problem(api.http.get(path, params={"statuss": "dead"}), 400)
    assert [error["field"] for error in document["errors"]] == ["statuss"]
    assert "'statuss'" in document["detail"]
    assert (known or "takes none") in document["detail"]


def test_a_cursor_is_refused_with_other_filters(api: ApiProcess) -> None:
    for _ in range(2):
        api.job(api.http.post("/v1/jobs", json=GOOD).json()["id"])
    cursor = api.http.get("/v1/jobs", params={"limit": 1}).json()["next_cursor"]
    problem(api.http.get("/v1/jobs", params={"limit": 1, "cursor": cursor, "tenant": "acme"}), 400)


@pytest.mark.parametrize("wait", ["soon", "-1", "1h", "nan"])
def test_a_wait_that_is_none_or_too_long_is_refused(api: ApiProcess, wait: str) -> None:
    assert problem(api.http.get("/v1/jobs/x", params={"wait": wait}), 400)["errors"][0]["field"] == "wait"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/no-such-job",
        "/v1/jobs/no/such/job",
        "/v1/jobs/no-such-job/events",
        "/v1/groups/no-such-group",
        "/v1/topics/no-such-topic",
        "/v1/topics/no-such-topic/records",
        "/v1/dlq/no-such-queue",
        "/v1/nothing",
        "/nothing",
        "/dashboard/nothing.js",
    ],
)
def test_what_is_not_there_is_404(api: ApiProcess, path: str) -> None:
    problem(api.http.get(path), 404)


def test_a_partition_that_is_not_there_is_404(api: ApiProcess, kafka: Kafka) -> None:
    api.job(api.http.post("/v1/jobs", json=GOOD).json()["id"])
    path = f"/v1/topics/{kafka.prefix}jobs.mail/records"
    problem(api.http.get(path, params={"partition": 999}), 404)
    problem(api.http.get(path, params={"partition": -1}), 400)
    problem(api.http.get(path, params={"offset": "first"}), 400)
    problem(api.http.get(path, params={"limit": 0}), 400)


def test_asking_for_a_topic_that_is_not_there_does_not_make_it(api: ApiProcess) -> None:
    problem(api.http.get("/v1/topics/never-made/records"), 404)
    assert "never-made" not in [item["topic"] for item in api.http.get("/v1/topics").json()["items"]]


def test_a_method_that_a_path_does_not_take_is_405_with_those_it_takes(api: ApiProcess) -> None:
    answer = api.http.delete("/v1/jobs")
    problem(answer, 405)
    assert answer.headers["allow"] == "GET, POST"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"limit": 0}', b'{"what": 1}', b'{"ids": "x"}'])
def test_a_replay_of_dead_letters_that_is_malformed_is_refused(api: ApiProcess, body: bytes) -> None:
    problem(api.http.post("/v1/dlq/mail:replay", content=body, headers=JSON), 400)
