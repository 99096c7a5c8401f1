"""Live events (WHATWG HTML, "Server-sent events"): one job's states, or everything that changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query
from logqueue_consumers.view.job import STATE_NAMES, TERMINAL_STATES, JobKey
from starlette.responses import Response, StreamingResponse

from logqueue_api.rest.openapi import problems
from logqueue_api.rest.problems import not_found, unavailable
from logqueue_api.rest.services import Services, ServicesOf
from logqueue_api.rest.wire import job_document, job_version

router = APIRouter(tags=["events"])

# A comment this often keeps proxies from closing a silent stream, and finds listeners that are gone.
KEEP_ALIVE_SECONDS: Final = 15.0
# Changes are told in bundles, at most this often and this many one by one.
BUNDLE_SECONDS: Final = 0.25
MAX_BUNDLE: Final = 200

_STREAM: Final = {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "A stream of events"}
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@router.get(
    "/v1/jobs/{job_id:path}/events",
    responses={200: _STREAM, **problems(400, 404, 503)},
    response_class=Response,
    summary="A job's states as they change",
)
async def job_events(
    job_id: str,
    services: ServicesOf,
    group: Annotated[str | None, Query(description="The run of this replay group instead of the live one.")] = None,
) -> Response:
    """Event `state` with the job as it is now and after each change, until it ends. Fast changes may be left out."""
    key = JobKey(job_id, group or "")
    if services.view.job(key) is None:
        raise not_found(f"there is no job {job_id!r}")
    _check_room(services)
    return StreamingResponse(_job_stream(services, key), media_type="text/event-stream", headers=_HEADERS)


@router.get(
    "/v1/events", responses={200: _STREAM, **problems(400, 503)}, response_class=Response, summary="All changes, live"
)
async def all_events(services: ServicesOf) -> Response:
    """Event `changes`: how many jobs changed since the last event, some of them with id and state, the view's lag."""
    _check_room(services)
    return StreamingResponse(_change_stream(services), media_type="text/event-stream", headers=_HEADERS)


async def _job_stream(services: Services, key: JobKey) -> AsyncIterator[bytes]:
    with _stream(services):
        async with services.view.watching_job(key) as changed:
            told = ""
            while not services.stopping.is_set():
                changed.clear()
                job = services.view.job(key)
                if job is not None and (version := job_version(job)) != told:
                    told = version
                    document = job_document(job, services.view.catalogue.default_types)
                    yield _event("state", document, id_=version.strip('"'))
                    if job.outcome.state in TERMINAL_STATES:
                        return
                try:
                    async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                        await changed.wait()
                except TimeoutError:
                    yield b": still here\n\n"


async def _change_stream(services: Services) -> AsyncIterator[bytes]:
    with _stream(services):
        async with services.view.listening() as reports:
            latest = services.view.latest
            yield _event("changes", {"count": 0, "jobs": [], "lag": latest.lag if latest else None})
            loop = asyncio.get_running_loop()
            silent_since = loop.time()
            while not services.stopping.is_set():
                await asyncio.sleep(BUNDLE_SECONDS)
                bundle = [reports.get_nowait() for _ in range(reports.qsize())]
                changes = [change for report in bundle for change in report.changes]
                if changes:
                    jobs = (
                        {"id": id_, "state": STATE_NAMES[state], **({"shadow": shadow} if shadow else {})}
                        for shadow, state, ids in changes
                        for id_ in ids
                    )
                    count = sum(len(ids) for _, _, ids in changes)
                    silent_since = loop.time()
                    data = {"count": count, "jobs": list(islice(jobs, MAX_BUNDLE)), "lag": bundle[-1].lag}
                    yield _event("changes", data)
                elif loop.time() - silent_since >= KEEP_ALIVE_SECONDS:
                    silent_since = loop.time()
                    yield b": still here\n\n"


def _check_room(services: Services) -> None:
    """503 while too many streams are open. Asked before the answer begins: a stream has said 200 already."""
    if services.streams >= services.limits.max_streams:
        raise unavailable(f"{services.streams} event streams are open already")


@contextmanager
def _stream(services: Services) -> Iterator[None]:
    _check_room(services)
    services.streams += 1
    try:
        yield
    finally:
        services.streams -= 1


def _event(name: str, document: Any, *, id_: str | None = None) -> bytes:
    head = f"event: {name}\n" + (f"id: {id_}\n" if id_ is not None else "")
    return head.encode() + b"data: " + orjson.dumps(document) + b"\n\n"
