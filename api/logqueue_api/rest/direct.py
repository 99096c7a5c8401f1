"""The busiest requests on a way of their own past router, middleware and dependencies: to the same endpoints.

FastAPI keeps their routes, for its documents and for every request that is not quite ordinary (a query parameter that
is not known, an id with a slash): what is not taken here goes there. Errors become the same problem documents.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from fastapi import Request
from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from logqueue_api.rest.job_routes import BATCH_PATH, JOB_PATH, JOBS_PATH, get_job, post_batch, post_job
from logqueue_api.rest.problems import response_to
from logqueue_api.rest.services import Services

_ONE_JOB: Final = f"{JOBS_PATH}/"


@dataclass(frozen=True, slots=True)
class _Route:
    """An endpoint under the path that metrics show."""

    path: str
    answer: Callable[[Request, Services], Awaitable[Response]]


class _JobQuery(NamedTuple):
    """What a GET of one job asks for, as it came."""

    wait: str | None
    min_position: str | None
    group: str | None


class Direct:
    """Answers the requests that it knows, counts and times them, and passes on all others."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services
        self._posts = {JOBS_PATH: _Route(JOBS_PATH, _post_job), BATCH_PATH: _Route(BATCH_PATH, post_batch)}
        self._get = _Route(JOB_PATH, _get_job)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._route(scope)
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        status = 500
        began = time.perf_counter()
        try:
            request = Request(scope, receive)
            try:
                response = await route.answer(request, self._services)
            except Exception as error:
                response = response_to(error, request, bootstrap=self._services.settings.bootstrap)
            status = response.status_code
            await response(scope, receive, send)
        finally:
            seconds = time.perf_counter() - began
            self._services.metrics.request(method=scope["method"], route=route.path, status=status, seconds=seconds)

    def _route(self, scope: Scope) -> _Route | None:
        if scope["type"] != "http":
            return None
        method, path = scope["method"], scope["path"]
        if method == "POST":
            return self._posts.get(path)
        is_one_job = method == "GET" and path.startswith(_ONE_JOB) and path.find("/", len(_ONE_JOB)) < 0
        return self._get if is_one_job and _read_query(scope["query_string"]) is not None else None


async def _post_job(request: Request, services: Services) -> Response:
    return await post_job(request, services, request.headers.get("idempotency-key"))


async def _get_job(request: Request, services: Services) -> Response:
    scope = request.scope
    query = _read_query(scope["query_string"])
    assert query is not None, "such a request is passed on"
    wait, min_position, group = query
    job_id = scope["path"].removeprefix(_ONE_JOB)
    return await get_job(job_id, request, services, wait=wait, min_position=min_position, group=group)


@lru_cache(maxsize=64)  # most ask alike
def _read_query(query: bytes) -> _JobQuery | None:
    """None for one with a parameter that is not known."""
    found = QueryParams(query)
    if not set(_JobQuery._fields).issuperset(found):
        return None
    return _JobQuery(found.get("wait"), found.get("min_position"), found.get("group"))
