"""POST /v1/events: a CloudEvent becomes a job (CloudEvents 1.0.2, HTTP binding, structured and binary mode)."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from logqueue.jobs.cloudevents import STRUCTURED, Event, is_event, read_event, read_http_event
from logqueue.jobs.errors import InvalidArguments, Undecodable
from logqueue_api.rest.answers import json_answer, read_body
from logqueue_api.rest.models import Receipt
from logqueue_api.rest.openapi import answers
from logqueue_api.rest.problems import Problem, invalid
from logqueue_api.rest.services import ServicesOf

router = APIRouter(tags=["jobs"])

_EXAMPLE: Final = {
    "specversion": "1.0",
    "id": "7",
    "source": "/shop",
    "type": "email.send",
    "partitionkey": "acme",
    "data": {"to": "a@b.c", "body": "hi"},
}


@router.post(
    "/v1/events",
    status_code=202,
    responses=answers(Receipt, 400, 409, 413, 415, 503, status=202),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                STRUCTURED: {"schema": {"type": "object"}, "example": _EXAMPLE},
                "application/json": {"schema": {"type": "object"}, "example": _EXAMPLE["data"]},
            },
        }
    },
    summary="Put the job that a CloudEvent names on the log",
)
async def post_event(request: Request, services: ServicesOf) -> Response:
    """`type` is the job's, `data` its arguments, `partitionkey` its tenant.

    The event is the body (structured mode), or its attributes are headers `ce-type`, `ce-id`, ... and its data the body
    (binary mode). It is named by `source` and `id`: the same one again is the same job, answered with 200 as it is now.
    """
    content_type = request.headers.get("content-type", "")
    is_structured = is_event(content_type)
    if not is_structured and "ce-specversion" not in request.headers:
        told = f"send one event as {STRUCTURED}, or its attributes in headers (ce-specversion, ce-id, ...)"
        raise Problem(415, f"content-type {content_type!r} is not taken; {told}")
    body = await read_body(request, max_bytes=services.limits.max_body_bytes)
    try:
        event = read_event(body) if is_structured else read_http_event(request.headers.items(), body)
        document = _document(event)
    except InvalidArguments as error:
        raise invalid(error.field or "body", str(error)) from None
    except Undecodable as error:
        raise Problem(400, str(error)) from None
    receipt = await services.submission.submit(document, key=event.key)
    is_new = not receipt.get("duplicate")
    services.metrics.submitted(int(is_new))
    location = f"/v1/jobs/{quote(receipt['id'], safe='')}"
    return json_answer(receipt, status=202 if is_new else 200, headers={"Location": location})


def _document(event: Event) -> dict[str, Any]:
    """The body of POST /v1/jobs that says the same."""
    try:
        arguments = orjson.loads(event.arguments())
    except orjson.JSONDecodeError as error:
        raise InvalidArguments(f"data is not JSON: {error}", field="data") from None
    if not isinstance(arguments, dict):
        raise InvalidArguments("data is not a JSON object of arguments", field="data")
    found = {
        "type": event.type,
        "queue": event.queue,
        "tenant": event.partitionkey,
        "expires_at": event.expirytime,
        "args": arguments,
    }
    return {name: value for name, value in found.items() if value is not None}
