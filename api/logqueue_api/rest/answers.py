"""JSON answers, those of operations too, and reading what a request asks for within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from logqueue_api.rest.operations import Operation
from logqueue_api.rest.problems import Problem, faults_of, invalid
from logqueue_api.rest.services import Services
from logqueue_api.rest.wire import read_json

JSON = "application/json"
CUT_SHORT = "the connection ended before the body was complete"

Model = TypeVar("Model", bound=BaseModel)


def json_answer(document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response, encoded by orjson."""
    return Response(orjson.dumps(document), status_code=status, media_type=JSON, headers=dict(headers or {}))


def view_headers(services: Services) -> dict[str, str]:
    """How far the view lags behind the log, in records."""
    latest = services.view.latest
    return {"X-View-Lag": str(latest.lag) if latest is not None else "unknown"}


async def answer_operation(
    services: Services,
    what: str,
    work: Callable[[Operation], Awaitable[None]],
    *,
    by: str,
    dry_run: bool,
    seconds: float,
    facts: Mapping[str, Any] | None = None,
) -> Response:
    """Start it and answer with its end if that is soon, else with how far it is and where to look (202, `Location`).

    `facts` stand in the document before the operation's own counts. Its failure, if that is soon, is the answer's.
    """
    operation, task = services.operations.start(what, by=by, dry_run=dry_run, work=work)
    await asyncio.wait((task,), timeout=seconds)
    if operation.state == "failed":
        raise operation.problem or Problem(500, operation.detail or "the API failed")
    document = operation.document()
    if facts is not None:
        document |= {**facts, **operation.counts}
    return json_answer(document, status=202, headers={"Location": f"/v1/operations/{operation.id}"})


async def read_request(model: type[Model], request: Request, services: Services) -> Model:
    """The body of a request as a model, an empty one as an empty object; Problem: 400, 413, 415."""
    return read_model(model, await read_body(request, max_bytes=services.limits.max_body_bytes))


def read_limit(limit: int, most: int) -> int:
    """How many items are asked for; a Problem (400) for more than are given."""
    if not 1 <= limit <= most:
        raise invalid("limit", f"must be from 1 to {most}")
    return limit


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """The body; 413 as soon as it is, or says that it will be, too large; 415 for a media type that is not JSON.

    400 where it is cut short: told to nobody, and no failure of ours.
    """
    # The types that a foreign web page can send without asking first (text/plain, forms, none at all) are not taken:
    # else any page that a browser shows could put jobs on the log of the machine it runs on (Fetch, "CORS protocol").
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != JSON and not media.endswith("+json"):
        said = f"content-type {media!r} is not taken" if media else "there is no content-type"
        raise Problem(415, f"{said}; send {JSON} (with curl: add -H 'content-type: {JSON}')")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
    except ClientDisconnect:
        raise Problem(400, CUT_SHORT) from None
    return bytes(body)


def read_model(model: type[Model], body: bytes) -> Model:
    """The body as a model; an empty one is an empty object. A Problem (400) names the fields that are wrong."""
    document = read_json(body) if body.strip() else {}
    if not isinstance(document, dict):
        raise invalid("body", "not a JSON object")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        faults = faults_of(error)
        raise Problem(400, "; ".join(f"{f.field}: {f.detail}" for f in faults[:5]), faults=faults) from None


def _too_large(max_bytes: int) -> Problem:
    # What is still on its way is not read: the connection ends with the answer.
    return Problem(413, f"the body is larger than {max_bytes:,} bytes", headers={"Connection": "close"})
