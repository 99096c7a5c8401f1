"""/v1/jobs: put jobs on the log, look one up, list them."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request
from logqueue_consumers.view.job import STATES_BY_NAME, JobKey, State
from logqueue_consumers.view.place import JobFilter, decode_cursor, encode_cursor
from starlette.responses import Response

from logqueue.jobs.durations import InvalidDuration, parse_duration
from logqueue_api.rest.answers import json_answer, read_body, read_limit, view_headers
from logqueue_api.rest.conditions import show_job
from logqueue_api.rest.models import BatchReceipt, BatchRequest, JobDocument, JobPage, JobRequest, Receipt
from logqueue_api.rest.openapi import answers, body_of
from logqueue_api.rest.problems import invalid, not_found
from logqueue_api.rest.services import Services, ServicesOf
from logqueue_api.rest.wire import job_version, read_json, read_positions, read_time_ms

router = APIRouter(tags=["jobs"])

JOBS_PATH = "/v1/jobs"
BATCH_PATH = "/v1/jobs:batch"
JOB_PATH = "/v1/jobs/{job_id:path}"

WAIT_TEXT = "Answer only when the job has ended, or after this long: seconds, or text like `20s`."
POSITION_TEXT = "Answer only from a view that holds this record: `position` of a receipt. Several with commas."


@router.post(
    JOBS_PATH,
    status_code=202,
    responses=answers(Receipt, 400, 409, 413, 415, 503, status=202),
    openapi_extra=body_of(JobRequest),
    summary="Put a job on the log",
)
async def post_job(
    request: Request,
    services: ServicesOf,
    idempotency_key: Annotated[str | None, Header(description="The same key is the same job.")] = None,
) -> Response:
    """Answers once the job is durable. Arguments are checked against what workers have published first.

    With an Idempotency-Key that came before nothing is sent: 200 with the job as it is now, its result included; 409 if
    its arguments were others.
    """
    body = await read_body(request, max_bytes=services.limits.max_body_bytes)
    receipt = await services.submission.submit(read_json(body), key=idempotency_key)
    is_new = not receipt.get("duplicate")
    services.metrics.submitted(int(is_new))
    location = f"/v1/jobs/{quote(receipt['id'], safe='')}"
    return json_answer(receipt, status=202 if is_new else 200, headers={"Location": location})


@router.post(
    BATCH_PATH,
    status_code=202,
    responses=answers(BatchReceipt, 400, 409, 413, 415, 503, status=202),
    openapi_extra=body_of(BatchRequest),
    summary="Put many jobs on the log",
)
async def post_batch(request: Request, services: ServicesOf) -> Response:
    """All jobs are checked before the first is sent. After a 503 some may be on the log: give ids to tell."""
    body = await read_body(request, max_bytes=services.limits.max_batch_body_bytes)
    document = await services.submission.submit_batch(read_json(body), max_jobs=services.limits.max_batch_jobs)
    services.metrics.submitted(sum(not item.get("duplicate") for item in document["items"]))
    return json_answer(document, status=202)


@router.get(
    JOBS_PATH,
    responses=answers(JobPage, 400, 503),
    summary="List jobs, newest first",
)
async def list_jobs(
    services: ServicesOf,
    state: Annotated[list[str] | None, Query(description="One or more states, repeated or with commas.")] = None,
    type: Annotated[str | None, Query(max_length=255)] = None,  # noqa: A002 - the word of the API
    tenant: Annotated[str | None, Query(max_length=255)] = None,
    queue: Annotated[str | None, Query(max_length=100)] = None,
    since: Annotated[str | None, Query(description="Created at or after this time (RFC 3339).")] = None,
    until: Annotated[str | None, Query(description="Created before this time (RFC 3339).")] = None,
    group: Annotated[str | None, Query(description="The runs of this replay group instead of the live ones.")] = None,
    limit: Annotated[int | None, Query(description="Jobs in a page.")] = None,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before, with the same filters.")] = None,
    min_position: Annotated[str | None, Query(description=POSITION_TEXT)] = None,
) -> Response:
    """A page may be short and still have a `next_cursor`: the work for one page is bounded. Null means the end."""
    job_filter = JobFilter(
        states=_read_states(state or []),
        type=type,
        tenant=tenant,
        queue=queue,
        since_ms=None if since is None else read_time_ms("since", since),
        until_ms=None if until is None else read_time_ms("until", until),
        shadow=group or "",
    )
    size = _read_limit(limit, services)
    after = None if cursor is None else decode_cursor(cursor, job_filter)
    if min_position is not None:
        await services.view.wait_for(read_positions(min_position), timeout=services.limits.position_wait_s)
    default_types = services.view.catalogue.default_types
    page = await services.view.query(
        lambda reader: reader.jobs(job_filter, limit=size, after=after, default_types=default_types)
    )
    document = {
        "items": [show_job(job, services) for job in page.jobs],
        "next_cursor": None if page.after is None else encode_cursor(page.after, job_filter),
    }
    return json_answer(document, headers=view_headers(services))


async def get_job(
    job_id: str,
    request: Request,
    services: ServicesOf,
    wait: Annotated[str | None, Query(description=WAIT_TEXT)] = None,
    min_position: Annotated[str | None, Query(description=POSITION_TEXT)] = None,
    group: Annotated[str | None, Query(description="The run of this replay group instead of the live one.")] = None,
) -> Response:
    """With `wait`, a job that the view does not know yet is waited for too."""
    seconds = _read_wait(wait, services)
    if min_position is not None:
        timeout = services.limits.position_wait_s if seconds is None else seconds
        await services.view.wait_for(read_positions(min_position), timeout=timeout)
    key = JobKey(job_id, group or "")
    view = services.view
    job = view.job(key) if seconds is None else await view.ended(key, timeout=seconds)
    if job is None:
        raise not_found(f"there is no job {job_id!r}" + (f" in replay group {group!r}" if group else ""))
    version = job_version(job)
    headers = view_headers(services) | {"ETag": version}
    if request.headers.get("if-none-match") == version:
        return Response(status_code=304, headers=headers)
    return json_answer(show_job(job, services), headers=headers)


def _read_states(texts: list[str]) -> tuple[State, ...]:
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in STATES_BY_NAME]
    if unknown:
        raise invalid("state", f"unknown state {unknown[0][:50]!r}; known are {', '.join(STATES_BY_NAME)}")
    return tuple(sorted({STATES_BY_NAME[name] for name in names}))


def _read_limit(limit: int | None, services: Services) -> int:
    if limit is None:
        return services.limits.default_page
    return read_limit(limit, services.limits.max_page)


def _read_wait(text: str | None, services: Services) -> float | None:
    if text is None:
        return None
    try:
        seconds = _read_seconds(text)
    except InvalidDuration as error:
        raise invalid("wait", str(error)) from None
    if seconds > services.limits.max_wait_s:
        raise invalid("wait", f"at most {services.limits.max_wait_s:g} s; ask again after that")
    return seconds


@lru_cache(maxsize=64)  # most wait alike
def _read_seconds(text: str) -> float:
    return parse_duration(float(text)) if _is_number(text) else parse_duration(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# The id may hold slashes, so this path takes all that follows: the app adds it behind every longer one.
late_router = APIRouter(tags=["jobs"])
late_router.add_api_route(
    JOB_PATH,
    get_job,
    methods=["GET"],
    responses={304: {"description": "Unchanged"}, **answers(JobDocument, 400, 404, 503)},
    summary="One job",
)
