"""Input that nobody sends by accident is answered as any other fault: no 500, no broken stream."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from logqueue_api.rest.bounded_http import MAX_HEAD_BYTES

from tests.conftest import Engine
from tests.rest.conftest import ApiProcess, Kafka

DEEP = b"[" * 300 + b"]" * 300
"""Valid JSON, and deeper than orjson writes (254)."""


def test_a_record_that_is_nested_too_deep_to_be_written_is_shown_as_text(api: ApiProcess, kafka: Kafka) -> None:
    kafka.create("deep", 1)
    kafka.send("deep", DEEP)
    response = api.http.get(f"/v1/topics/{kafka.prefix}deep/records")
    assert response.status_code == 200, response.text
    (item,) = response.json()["items"]
    assert (item["value"], item["value_format"]) == (DEEP.decode(), "text")


def test_a_stream_too_many_is_refused_before_it_begins(engine: Engine, kafka: Kafka, tmp_path: Path) -> None:
    api = ApiProcess(engine.bootstrap, kafka.prefix, tmp_path / "view.db", max_streams=1)
    api.wait_ready()
    with ExitStack() as open_streams:
        first = open_streams.enter_context(api.http.stream("GET", "/v1/events"))
        assert first.status_code == 200
        events = first.iter_text()  # held: with the last reference httpx closes the stream
        assert next(events).startswith("event: changes")
        response = api.http.get("/v1/events")
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.headers["content-type"] == "application/problem+json"
    api.until(lambda: is_streamed(api), "free again")
    assert api.stop() == 0


def is_streamed(api: ApiProcess) -> bool:
    with api.http.stream("GET", "/v1/events") as response:
        return response.status_code == 200


@pytest.mark.parametrize("value", [[], {}, ["BACKWARD"]])
def test_the_registry_refuses_settings_that_are_no_text(api: ApiProcess, value: object) -> None:
    level = api.http.put("/registry/config", json={"compatibility": value})
    assert (level.status_code, level.json()["error_code"]) == (422, 42203)
    mode = api.http.put("/registry/mode", json={"mode": value})
    assert (mode.status_code, mode.json()["error_code"]) == (422, 42204)


def test_the_registry_refuses_a_version_of_thousands_of_digits(api: ApiProcess) -> None:
    response = api.http.get("/registry/subjects/any/versions/" + "9" * 5_000)
    assert (response.status_code, response.json()["error_code"]) == (422, 42202)


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_the_registry_takes_no_body_that_a_foreign_web_page_can_send(api: ApiProcess, media: str | None) -> None:
    headers = {} if media is None else {"content-type": media}
    response = api.http.post("/registry/subjects/foreign/versions", content=b'{"schema": "1"}', headers=headers)
    assert (response.status_code, response.json()["error_code"]) == (415, 415)


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/jobs/any"), ("GET", "/v1/kills"), ("POST", "/v1/jobs")])
def test_an_api_on_loopback_does_not_go_by_a_foreign_name(api: ApiProcess, method: str, path: str) -> None:
    response = api.http.request(method, path, headers={"host": "evil.example", "content-type": "application/json"})
    assert (response.status_code, response.headers["content-type"]) == (421, "application/problem+json")
    assert "LOGQUEUE_API_HOSTS=evil.example" in response.json()["detail"]


def test_a_head_without_end_is_answered_431_and_the_connection_ends(api: ApiProcess) -> None:
    with socket.create_connection(("127.0.0.1", api.http.base_url.port or 0), timeout=20) as client:
        line = b"GET / HTTP/1.1\r\nx-long: "
        client.sendall(line + b"a" * (MAX_HEAD_BYTES + 1 - len(line)))
        with client.makefile("rb") as answer:
            assert answer.read().startswith(b"HTTP/1.1 431 ")
