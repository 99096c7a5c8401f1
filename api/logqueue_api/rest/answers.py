"""JSON answers, and reading bodies within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import Response

from logqueue_api.rest.problems import Problem
from logqueue_api.rest.services import Services

JSON = "application/json"


def json_answer(document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response, encoded by orjson."""
    return Response(orjson.dumps(document), status_code=status, media_type=JSON, headers=dict(headers or {}))


def view_headers(services: Services) -> dict[str, str]:
    """How far the view lags behind the log, in records."""
    latest = services.view.latest
    return {"X-View-Lag": str(latest.lag) if latest is not None else "unknown"}


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """The body; 413 as soon as it is, or says that it will be, too large; 415 for a media type that is not JSON."""
    media = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    # curl -d says form data where nothing else is said; a body that is no JSON is refused by what is in it.
    if media not in (JSON, "text/json", "application/x-www-form-urlencoded", "text/plain") and not media.endswith(
        "+json"
    ):
        raise Problem(415, f"content-type {media!r} is not supported; send {JSON}")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _too_large(max_bytes: int) -> Problem:
    # What is still on its way is not read: the connection ends with the answer.
    return Problem(413, f"the body is larger than {max_bytes:,} bytes", headers={"Connection": "close"})
