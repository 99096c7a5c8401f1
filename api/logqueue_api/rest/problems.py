"""Errors as RFC 9457 problem details; the one place where exceptions become HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson
import structlog
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InvalidTopicError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.errors import KafkaError as ClientError
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from logqueue_consumers.letters.dead_letters import DeadLettersUnreadable, LettersClosed
from logqueue_consumers.view.place import InvalidCursor
from logqueue_consumers.view.reader import ViewUnavailable
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match

from logqueue.errors import LogqueueError
from logqueue.jobs.admin import TopicsNotCreated
from logqueue.jobs.durations import InvalidDuration
from logqueue.jobs.errors import (
    BrokerUnreachable,
    InvalidArguments,
    InvalidDefinition,
    JobTooLarge,
    RegistrationFailed,
    SendFailed,
)
from logqueue_api.rest.plain_words import plain_words

MEDIA_TYPE: Final = "application/problem+json"
MAX_FIELD_ERRORS: Final = 100  # told in one answer

# What pydantic puts behind the name of a field that may be a number or text: it tells what is wrong with either.
_BRANCHES: Final = ("float", "constrained-float", "constrained-str")
_RETRY: Final = {"Retry-After": "1"}
_log = structlog.get_logger("logqueue.api")


class FieldError(BaseModel):
    """One thing that is wrong with one field of a request."""

    field: str = Field(description="Where: a path such as `args.to` or `3.tenant`, a query parameter or a header.")
    detail: str


class ProblemDocument(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field("about:blank", description="Names the kind of problem where the status alone does not.")
    title: str
    status: int
    detail: str
    instance: str | None = Field(None, description="The path that was asked for.")
    errors: list[FieldError] | None = Field(None, description="The fields that are wrong.")


@dataclass(frozen=True, slots=True)
class FieldFault:
    """A field and what is wrong with it."""

    field: str
    detail: str


class Problem(LogqueueError):
    """An answer that is an error: raised anywhere below a route."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str = "about:blank",
        faults: Sequence[FieldFault] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.faults = tuple(faults)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


def invalid(field: str, detail: str, *, kind: str = "about:blank") -> Problem:
    """400 with one field named."""
    return Problem(400, f"{field}: {detail}", kind=kind, faults=[FieldFault(field, detail)])


def not_found(what: str) -> Problem:
    """404."""
    return Problem(404, what)


def unavailable(detail: str, *, kind: str = "about:blank", extra: Mapping[str, Any] | None = None) -> Problem:
    """503, worth trying again."""
    return Problem(503, detail, kind=kind, headers=_RETRY, extra=extra)


def faults_of(error: ValidationError | RequestValidationError) -> list[FieldFault]:
    """The fields that pydantic names, as paths with dots."""
    said: dict[str, list[str]] = {}
    for item in error.errors()[:MAX_FIELD_ERRORS]:
        path = [str(part) for part in item["loc"]]
        if isinstance(error, RequestValidationError):
            path = path[1:]  # "query", "path": where FastAPI found it
        if len(path) > 1 and path[-1].startswith(_BRANCHES):
            path.pop()
        words = said.setdefault(".".join(path) or "body", [])
        text = plain_words(item)
        words.append(text.removeprefix("must be ") if words else text)
    return [FieldFault(field, " or ".join(words)) for field, words in said.items()]


def as_problem(error: BaseException, *, bootstrap: str) -> Problem | None:
    """What an exception means over HTTP; None for one that is a bug of ours."""
    match error:
        case Problem():
            return error
        case InvalidArguments():
            return invalid(error.field, str(error)) if error.field else Problem(400, str(error))
        case InvalidCursor():
            return invalid("cursor", str(error), kind="urn:logqueue:invalid-cursor")
        case InvalidDuration() | InvalidDefinition():
            return Problem(400, str(error))
        case JobTooLarge():
            return Problem(413, str(error))
        case LettersClosed():
            return Problem(409, str(error), kind="urn:logqueue:letter-closed")
        case ValidationError() | RequestValidationError():
            faults = faults_of(error)
            return Problem(400, "; ".join(f"{fault.field}: {fault.detail}" for fault in faults[:5]), faults=faults)
        case _:
            return _as_log_problem(error, bootstrap)


def _as_log_problem(error: BaseException, bootstrap: str) -> Problem | None:
    """What is wrong between us and the log."""
    match error:
        case ViewUnavailable():
            return unavailable(str(error), kind="urn:logqueue:view-unavailable")
        case BrokerUnreachable() | SendFailed() | TopicsNotCreated() | DeadLettersUnreadable() | RegistrationFailed():
            return unavailable(str(error), kind="urn:logqueue:log-unavailable")
        case UnknownTopicOrPartitionError() | InvalidTopicError():
            return not_found(f"the log has no such topic or partition: {error}")
        case TopicAuthorizationFailedError() | GroupAuthorizationFailedError():
            return Problem(403, f"the log at {bootstrap} does not allow it: {error}")
        case ClientError() | TimeoutError() | ConnectionError():
            reason = str(error) or type(error).__name__
            return unavailable(f"the log at {bootstrap} does not answer: {reason}", kind="urn:logqueue:log-unavailable")
        case _:
            return None


def render(problem: Problem, *, instance: str | None) -> Response:
    """The problem as a response."""
    document: dict[str, Any] = {
        "type": problem.kind,
        "title": _title(problem.status),
        "status": problem.status,
        "detail": problem.detail,
    }
    if instance is not None:
        document["instance"] = instance
    if problem.faults:
        document["errors"] = [{"field": fault.field, "detail": fault.detail} for fault in problem.faults]
    document |= problem.extra
    body = orjson.dumps(document, default=str)
    return Response(body, status_code=problem.status, media_type=MEDIA_TYPE, headers=problem.headers)


def response_to(error: Exception, request: Request, *, bootstrap: str) -> Response:
    """The answer to a request that ended with this exception; one that is a bug of ours is logged."""
    problem = as_problem(error, bootstrap=bootstrap)
    if problem is None:
        _log.error("a request failed", path=request.url.path, exc_info=error)
        problem = Problem(500, "the API failed on this request; its log has the reason")
    return render(problem, instance=request.url.path)


def install(app: FastAPI, routes: Sequence[BaseRoute], *, bootstrap: str) -> None:
    """Make every error of the app a problem document, those of the framework included. `routes` are all there are."""

    async def handle(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return render(_framework_problem(routes, request, error), instance=request.url.path)
        return response_to(error, request, bootstrap=bootstrap)

    kinds = (HTTPException, RequestValidationError, ValidationError, LogqueueError, ClientError, TimeoutError, OSError)
    for kind in (*kinds, Exception):
        app.add_exception_handler(kind, handle)


def _framework_problem(routes: Sequence[BaseRoute], request: Request, error: HTTPException) -> Problem:
    """No such path (404), or a path without this method (405: `Allow` has all that it has, RFC 9110)."""
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
        methods = sorted({method for route in matching for method in getattr(route, "methods", None) or ()})
        headers = {"Allow": ", ".join(methods)}
        detail = f"{request.url.path} takes {headers['Allow']}, not {request.method}"
    elif error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"there is nothing at {request.url.path}; /docs lists what there is"
    return Problem(error.status_code, detail, headers=headers)


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
