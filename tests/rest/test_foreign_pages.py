"""What a page of another web site makes a browser on this machine send: it changes nothing, and reads nothing."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from logqueue_api.rest.app import build_app
from logqueue_api.rest.hosts import only_known_hosts
from logqueue_api.rest.limits import ApiLimits
from starlette.types import ASGIApp, Receive, Scope, Send

from logqueue.jobs.errors import InvalidSetting
from tests.loops import in_loop
from tests.rest.test_direct import services

LOOPBACK = "127.0.0.1"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def answer_to(asked: ASGIApp, *headers: tuple[bytes, bytes]) -> tuple[int, bytes]:
    """Status and body."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/v1/jobs/7", "headers": list(headers)}
    await asked(scope, None, send)  # type: ignore[arg-type]  # nothing is received
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "localhost.",
        "jobs.localhost:8080",
        "127.0.0.1:8080",
        "10.1.2.3",
        "[::1]:8080",
        "[fe80::1]",
        "jobs.me",
        "",
    ],
)
@in_loop
async def test_on_loopback_a_request_for_localhost_an_address_or_a_name_that_is_set_is_taken(host: str) -> None:
    known = only_known_hosts(app, address=LOOPBACK, listed=["Jobs.me:443"])
    for _ in range(2):  # the second time it is remembered
        assert await answer_to(known, (b"host", host.encode())) == (204, b"")


@pytest.mark.parametrize("address", [LOOPBACK, "127.8.0.1", "::1"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example"]
)
@in_loop
async def test_on_loopback_a_request_for_another_name_is_told_what_to_set(address: str, host: str) -> None:
    known = only_known_hosts(app, address=address, listed=["jobs.me"])
    for _ in range(2):
        status, body = await answer_to(known, (b"accept", b"*/*"), (b"host", host.encode()))
        assert status == 421
        assert f"LOGQUEUE_API_HOSTS={host.partition(':')[0]}," in body.decode()


@in_loop
async def test_a_request_that_names_no_host_is_taken() -> None:
    assert await answer_to(only_known_hosts(app, address=LOOPBACK, listed=[])) == (204, b"")


def test_every_name_is_taken_on_other_addresses_and_where_that_is_set() -> None:
    assert only_known_hosts(app, address="0.0.0.0", listed=[]) is app
    assert only_known_hosts(app, address="192.168.1.7", listed=[]) is app
    assert only_known_hosts(app, address=LOOPBACK, listed=["jobs.me", "*"]) is app


def test_names_are_a_list_in_the_file_and_have_commas_in_the_environment() -> None:
    assert ApiLimits().hosts == ()
    assert ApiLimits.load({"hosts": ["a.example", "b.example"]}, {}).hosts == ("a.example", "b.example")
    assert ApiLimits.load({"hosts": ["a"]}, {"LOGQUEUE_API_HOSTS": "b.example, c.example:8443,"}).hosts == (
        "b.example",
        "c.example:8443",
    )
    with pytest.raises(InvalidSetting, match="no list of names"):
        ApiLimits.load({"hosts": 7}, {})
    with pytest.raises(InvalidSetting, match=r"LOGQUEUE_API_HOSTS: .*a.example' is no host"):
        ApiLimits.load({}, {"LOGQUEUE_API_HOSTS": "https://a.example"})


@in_loop
async def test_nothing_that_changes_something_is_taken_as_a_form_or_text() -> None:
    parts = services()
    api = build_app(parts)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://api") as client:
        taken = []
        paths = [
            (method, re.sub(r"{\w+}", "x", path))
            for path, methods in api.openapi()["paths"].items()
            for method in {"post", "put", "patch", "delete"} & set(methods)
        ]
        assert ("post", "/v1/replays/x:stop") in paths
        for method, path in paths:
            for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
                answer = await client.request(method, path, headers={"content-type": media})
                if answer.status_code != 415:
                    taken.append((method, path, answer.status_code))
    assert taken == []
