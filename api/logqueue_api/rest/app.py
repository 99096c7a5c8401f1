"""The FastAPI app: routes, docs without the internet, problems, the dashboard, and the measuring of every request."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from logqueue.version import __version__
from logqueue_api.rest import (
    cloud_event_routes,
    control_routes,
    dlq_routes,
    event_routes,
    job_routes,
    letter_requests,
    openapi,
    problems,
    queue_routes,
    replay_routes,
    schedule_routes,
    service_routes,
    steering_routes,
    topic_routes,
    worker_routes,
    workflow_routes,
)
from logqueue_api.rest.known_query import only_known_query
from logqueue_api.rest.metrics import ApiMetrics
from logqueue_api.rest.models import BatchRequest, JobRequest, NoFields
from logqueue_api.rest.registry.desk import RegistryDesk
from logqueue_api.rest.registry.documented import registry_paths
from logqueue_api.rest.registry.routes import RegistryRoutes
from logqueue_api.rest.services import Services

REGISTRY: Final = "/registry"
DASHBOARD: Final = Path(__file__).parents[1] / "dashboard"

_ROUTERS: Final = (
    job_routes.router,
    control_routes.router,
    steering_routes.router,
    event_routes.router,
    cloud_event_routes.router,
    job_routes.late_router,
    queue_routes.router,
    dlq_routes.router,
    topic_routes.router,
    worker_routes.router,
    workflow_routes.router,
    replay_routes.router,
    schedule_routes.router,
    service_routes.router,
)

_DESCRIPTION: Final = """\
Put jobs on the log, see how far they are, look into the log itself.

Errors are problem details (RFC 9457). Lists go page by page with `next_cursor`. `min_position` reads your own writes.
"""


def build_app(services: Services) -> FastAPI:
    """The app over these services."""
    app = FastAPIOffline(
        title="logqueue",
        version=__version__,
        description=_DESCRIPTION,
        static_url="/docs-assets",
        favicon_url="/dashboard/icon.svg",
        redirect_slashes=False,
    )
    app.state.services = services
    routes = [route for router in _ROUTERS for route in router.routes]
    problems.install(app, routes, bootstrap=services.settings.bootstrap)
    has_registry = services.settings.schema_registry_url is None
    openapi.install(
        app,
        JobRequest,
        BatchRequest,
        NoFields,
        letter_requests.LetterRequest,
        letter_requests.ReplayRequest,
        replay_routes.ReplayStart,
        control_routes.CommandRequest,
        control_routes.BulkRequest,
        workflow_routes.CancelRequest,
        *steering_routes.MODELS,
        *schedule_routes.MODELS,
        paths=registry_paths(REGISTRY) if has_registry else None,
    )
    for router in _ROUTERS:
        app.include_router(router, dependencies=[Depends(only_known_query)])

    @app.get("/", include_in_schema=False)
    async def dashboard() -> Response:
        return FileResponse(DASHBOARD / "index.html", headers={"Cache-Control": "no-cache"})

    if has_registry:
        desk = RegistryDesk(services.client.settings, writer=services.operator.writer, clock=services.clock)
        app.mount(REGISTRY, RegistryRoutes(desk).app(), name="registry")
    app.mount("/dashboard", StaticFiles(directory=DASHBOARD), name="dashboard")
    return app


class Measured:
    """Counts and times every request, and answers HEAD with the headers of GET."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method: str = scope["method"]
        is_head = method == "HEAD"
        if is_head:
            scope = {**scope, "method": "GET"}
        status = 500
        began = time.perf_counter()

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif is_head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            await self._app(scope, receive, observe)
        finally:
            route = getattr(scope.get("route"), "path", None) or "(none)"
            seconds = time.perf_counter() - began
            self._metrics.request(method=method, route=route, status=status, seconds=seconds)
