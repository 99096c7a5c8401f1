"""What a page of another web site makes a browser on this machine send: it changes nothing, and reads nothing."""

from __future__ import annotations

import re

import httpx
from logqueue_api.rest.app import build_app

from tests.loops import in_loop
from tests.rest.test_direct import services


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
