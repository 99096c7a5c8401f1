"""The busiest requests, past the framework: every answer is the one that the framework's own route gives."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from logqueue_api.rest.app import Measured, build_app
from logqueue_api.rest.catalogue import Catalogue
from logqueue_api.rest.direct import Direct
from logqueue_api.rest.job_routes import JOB_PATH, JOBS_PATH
from logqueue_api.rest.limits import ApiLimits
from logqueue_api.rest.metrics import ApiMetrics
from logqueue_api.rest.problems import invalid
from logqueue_api.rest.services import Services
from logqueue_consumers.view.job import FROM_STATUS, RANKS, Identity, Job, JobKey, Outcome, State
from structlog.testing import capture_logs

from logqueue.jobs.errors import BrokerUnreachable, JobTooLarge
from logqueue.jobs.settings import Settings
from tests.loops import in_loop

ENDED = Outcome(0, 1, RANKS[State.SUCCEEDED], 7, State.SUCCEEDED, 9_000, "app", result=b"3")
JOB = Job(JobKey("known"), "mail.send", Identity(FROM_STATUS, 1, "jobs.mail", 3, 99, "mail", "acme"), ENDED)
FAULTS = {"too large": JobTooLarge("large"), "away": BrokerUnreachable("away"), "bug": ZeroDivisionError("a bug")}


class _Submission:
    async def submit(self, document: Any, *, key: str | None = None) -> dict[str, Any]:
        if document.get("type") in FAULTS:
            raise FAULTS[document["type"]]
        if "type" not in document:
            raise invalid("type", "missing")
        return {"id": "ä/1", "type": document["type"], "key": key, "duplicate": key == "again"}

    async def submit_batch(self, document: Any, *, max_jobs: int) -> dict[str, Any]:
        return {"items": [await self.submit(job) for job in document["jobs"][:max_jobs]], "min_position": ""}


class _View:
    catalogue = Catalogue({})
    latest = None

    def job(self, key: JobKey) -> Job | None:
        return JOB if key == JOB.key else None

    async def wait_for(self, positions: Any, *, timeout: float) -> None:
        return None

    async def ended(self, key: JobKey, *, timeout: float) -> Job | None:
        return self.job(key)


def services() -> Services:
    parts = SimpleNamespace(
        settings=Settings(bootstrap="127.0.0.1:1", schema_registry_url="http://elsewhere"),
        limits=ApiLimits(max_body_bytes=200, max_batch_body_bytes=300, max_batch_jobs=3, max_wait_s=5),
        submission=_Submission(),
        metrics=SimpleNamespace(submitted=lambda jobs: None, request=lambda **facts: None),
        view=_View(),
        control=SimpleNamespace(asked_of=lambda job: {}),
        stopping=asyncio.Event(),
    )
    return cast(Services, parts)


JSON = {"content-type": "application/json"}
REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a job": ("POST", "/v1/jobs", {"json": {"type": "a"}}),
    "a job with a key": ("POST", "/v1/jobs", {"json": {"type": "a"}, "headers": {"Idempotency-Key": "k"}}),
    "the same key again": ("POST", "/v1/jobs", {"json": {"type": "a"}, "headers": {"idempotency-key": "again"}}),
    "a query is not looked at": ("POST", "/v1/jobs?x=1", {"json": {"type": "a"}}),
    "a fault": ("POST", "/v1/jobs", {"json": {}}),
    "no JSON": ("POST", "/v1/jobs", {"content": b"{", "headers": JSON}),
    "no body": ("POST", "/v1/jobs", {"headers": JSON}),
    "another media type": ("POST", "/v1/jobs", {"content": b"{}", "headers": {"content-type": "text/plain"}}),
    "too large a body": ("POST", "/v1/jobs", {"json": {"type": "a" * 300}}),
    "too large a job": ("POST", "/v1/jobs", {"json": {"type": "too large"}}),
    "the log is away": ("POST", "/v1/jobs", {"json": {"type": "away"}}),
    "a batch": ("POST", "/v1/jobs:batch", {"json": {"jobs": [{"type": "a"}, {"type": "b"}]}}),
    "a batch with a fault": ("POST", "/v1/jobs:batch", {"json": {"jobs": [{"type": "a"}, {}]}}),
    "too large a batch": ("POST", "/v1/jobs:batch", {"json": {"jobs": [{"type": "a" * 400}]}}),
    "one job": ("GET", "/v1/jobs/known", {}),
    "one job, waited for": ("GET", "/v1/jobs/known?wait=1s", {}),
    "one job of no group": ("GET", "/v1/jobs/known?group=", {}),
    "one job of another group": ("GET", "/v1/jobs/known?group=other", {}),
    "an unchanged job": ("GET", "/v1/jobs/known", {"headers": {"if-none-match": '"0.1.5.7"'}}),
    "a job that is not there": ("GET", "/v1/jobs/unknown", {}),
    "a job with a slash": ("GET", "/v1/jobs/a/b", {}),
    "a job with a slash in escapes": ("GET", "/v1/jobs/a%2Fb", {}),
    "a job with a space": ("GET", "/v1/jobs/a%20b", {}),
    "no id": ("GET", "/v1/jobs/", {}),
    "a wait that is none": ("GET", "/v1/jobs/known?wait=x", {}),
    "a wait that is too long": ("GET", "/v1/jobs/known?wait=6", {}),
    "a wait twice": ("GET", "/v1/jobs/known?wait=x&wait=1", {}),
    "an unknown query": ("GET", "/v1/jobs/known?wat=1", {}),
    "a position that is none": ("GET", "/v1/jobs/known?min_position=x", {}),
    "a position": ("GET", "/v1/jobs/known?min_position=jobs.mail-3-99", {}),
    "another method": ("PUT", "/v1/jobs", {"json": {}}),
    "an unknown path": ("GET", "/v1/jbos/known", {}),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
@in_loop
async def test_an_answer_is_the_one_of_the_framework(request_: tuple[str, str, dict[str, Any]]) -> None:
    parts = services()
    framework = build_app(parts)
    method, path, options = request_
    answers = []
    for app in (framework, Direct(framework, parts)):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
            answers.append(await client.request(method, path, **options))
    expected, found = answers
    assert (found.status_code, found.content) == (expected.status_code, expected.content)
    assert dict(found.headers) == dict(expected.headers)


@in_loop
async def test_a_bug_is_a_problem_that_tells_nothing_of_itself() -> None:
    parts = services()
    transport = httpx.ASGITransport(Direct(build_app(parts), parts))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        answer = await client.post("/v1/jobs", json={"type": "bug"})
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "a bug" not in answer.text


@in_loop
async def test_requests_are_counted_under_their_routes_whichever_way_they_go() -> None:
    parts = services()
    metrics = parts.metrics = ApiMetrics()
    app = Direct(Measured(build_app(parts), metrics), parts)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        await client.post("/v1/jobs", json={"type": "a"})
        await client.post("/v1/jobs", json={"type": "bug"})
        await client.get("/v1/jobs/known?wait=1s")
        await client.get("/v1/jobs/known?wat=1")
        await client.head("/v1/jobs/known")
    text = metrics.render([], now_ms=0).decode()
    found = {line for line in text.splitlines() if line.startswith("logqueue_http_requests_total")}
    assert found == {
        f'logqueue_http_requests_total{{method="{method}",route="{route}",status="{status}"}} 1.0'
        for method, route, status in (
            ("POST", JOBS_PATH, 202),
            ("POST", JOBS_PATH, 500),
            ("GET", JOB_PATH, 200),
            ("GET", JOB_PATH, 400),
            ("HEAD", JOB_PATH, 200),
        )
    }


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/kills:set"])
@in_loop
async def test_a_client_that_goes_away_amid_its_body_is_no_failure_of_ours(path: str) -> None:
    parts = services()
    sent: list[Any] = []
    coming = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return coming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    with capture_logs() as logs:
        await Direct(build_app(parts), parts)(scope, receive, send)
    assert (sent[0]["status"], logs) == (400, [])
