"""The busiest requests on a way of their own past router, middleware and dependencies: to the same endpoints.

FastAPI keeps their routes, for its documents and for every request that is not quite ordinary (a query parameter that
is not known, an id with a slash): what is not taken here goes there. Errors become the same problem documents.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fastapi import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from logqueue_api.rest.job_routes import BATCH_PATH, JOB_PATH, JOBS_PATH, get_job, post_batch, post_job
from logqueue_api.rest.problems import response_to
from logqueue_api.rest.services import Services

_ONE_JOB: Final = f"{JOBS_PATH}/"
_JOB_QUERY: Final = frozenset({"wait", "min_position", "group"})


@dataclass(frozen=True, slots=True)
class _Route:
    """An endpoint under the path that metrics show."""

    path: str
    answer: Callable[[Request, Services], Awaitable[Response]]


class Direct:
    """Answers the requests that it knows, and passes on all others."""

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
        request = Request(scope, receive)
        if route is self._get and not _JOB_QUERY.issuperset(request.query_params):
            await self._app(scope, receive, send)
            return
        try:
            response = await route.answer(request, self._services)
        except Exception as error:
            response = response_to(error, request, bootstrap=self._services.settings.bootstrap)
        await response(scope, receive, send)

    def _route(self, scope: Scope) -> _Route | None:
        if scope["type"] != "http":
            return None
        method, path = scope["method"], scope["path"]
        if method == "POST":
            return self._posts.get(path)
        is_one_job = method == "GET" and path.startswith(_ONE_JOB) and path.find("/", len(_ONE_JOB)) < 0
        return self._get if is_one_job else None


async def _post_job(request: Request, services: Services) -> Response:
    return await post_job(request, services, request.headers.get("idempotency-key"))


async def _get_job(request: Request, services: Services) -> Response:
    query = request.query_params
    return await get_job(
        request.scope["path"].removeprefix(_ONE_JOB),
        request,
        services,
        wait=query.get("wait"),
        min_position=query.get("min_position"),
        group=query.get("group"),
    )
