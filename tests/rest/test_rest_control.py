"""Cancel, retry and run-now over HTTP, for one job and for many; a worker beside the API obeys. On every engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from logqueue_api.rest.metrics import ApiMetrics
from logqueue_consumers.worker import run_worker
from logqueue_schemas.job_status import State

from logqueue import App, Breaker, Retry
from logqueue.jobs.context import JobContext
from logqueue.jobs.settings import Settings
from tests.consumers.conftest import FAST
from tests.rest.conftest import ApiProcess, Kafka

GROUP = "control"


class WorkerThread:
    """A worker with a loop of its own, and the switches of its handlers."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        settings = Settings(bootstrap=bootstrap, topic_prefix=prefix)
        self.app = app = App("control", group=prefix + GROUP, settings=settings)
        self.is_broken = threading.Event()
        self._ready = threading.Event()

        @app.job("charge", queue="pay", retry=Retry(attempts=1))
        async def charge(*, n: int = 0) -> int:
            if self.is_broken.is_set():
                raise ConnectionError("the bank is away")
            return n

        @app.job("long", queue="long", breaker=Breaker("bank"))
        async def long(ctx: JobContext) -> None:
            ctx.log("waiting")
            await asyncio.Event().wait()

        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        assert self._ready.wait(90), "the worker is not ready"

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await run_worker(self.app, stop=self._stop, limits=FAST, on_ready=lambda _: self._ready.set())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)


@pytest.fixture(scope="module")
def worker(api: ApiProcess, kafka: Kafka) -> Iterator[WorkerThread]:
    running = WorkerThread(kafka.bootstrap, kafka.prefix)
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def mended(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "worker" in request.fixturenames:
        request.getfixturevalue("worker").is_broken.clear()


def post(api: ApiProcess, path: str, body: Any = None, *, by: str = "tester") -> Any:
    return api.http.post(path, json={} if body is None else body, headers={"X-Logqueue-Actor": by})


def submit(api: ApiProcess, type_: str, **more: Any) -> str:
    answer = api.http.post("/v1/jobs", json={"type": type_, **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def wait_state(api: ApiProcess, job_id: str, state: str) -> dict[str, Any]:
    api.until(lambda: api.job(job_id)["state"] == state, f"{job_id} {state}")
    return api.job(job_id)


def test_a_running_job_is_cancelled_and_says_by_whom(api: ApiProcess, worker: WorkerThread) -> None:
    job_id = submit(api, "long")
    wait_state(api, job_id, "running")
    api.until(lambda: "log" in api.job(job_id)["details"], "its log line shown")
    answer = post(api, f"/v1/jobs/{job_id}:cancel", {"reason": "too slow"}, by="ann")
    assert (answer.status_code, answer.json()["accepted"], answer.json()["by"]) == (202, True, "ann")
    ended = wait_state(api, job_id, "cancelled")
    assert ended["details"]["cancelled"]["by"] == "ann" and ended["details"]["cancelled"]["reason"] == "too slow"
    again = post(api, f"/v1/jobs/{job_id}:cancel")
    assert (again.status_code, again.json()["accepted"]) == (202, False)
    assert ended["details"]["log"][0]["line"] == "waiting"
    entries = api.http.get("/v1/audit", params={"subject": job_id}).json()["items"]
    assert [(entry["event"], entry["by"]) for entry in entries] == [("cancel", "ann")]


def test_a_dead_job_runs_again_as_its_next_replay(api: ApiProcess, worker: WorkerThread) -> None:
    worker.is_broken.set()
    job_id = submit(api, "charge", args={"n": 7}, tenant="acme")
    assert wait_state(api, job_id, "dead")["replay"] == 0
    assert post(api, f"/v1/jobs/{job_id}:cancel").status_code == 409
    assert post(api, f"/v1/jobs/{job_id}:run-now").status_code == 409
    worker.is_broken.clear()
    assert post(api, f"/v1/jobs/{job_id}:retry").status_code == 202
    ended = wait_state(api, job_id, "succeeded")
    assert (ended["replay"], ended["result"], ended["attempt"]) == (1, 7, 1)
    refused = post(api, f"/v1/jobs/{job_id}:retry")
    assert refused.status_code == 409 and "succeeded" in refused.json()["detail"]
    letters = api.http.get("/v1/dlq/pay", params={"open": "true"}).json()["items"]
    assert job_id not in {letter["id"] for letter in letters}, "its letter is closed"


def test_a_retry_asked_for_twice_goes_round_once(api: ApiProcess, worker: WorkerThread) -> None:
    worker.is_broken.set()
    job_id = submit(api, "charge")
    wait_state(api, job_id, "dead")
    worker.is_broken.clear()
    answers = [post(api, f"/v1/jobs/{job_id}:retry").status_code for _ in range(2)]
    assert answers[0] == 202 and answers[1] in (202, 409)
    assert wait_state(api, job_id, "succeeded")["replay"] == 1


def test_a_scheduled_job_runs_now(api: ApiProcess, worker: WorkerThread) -> None:
    job_id = submit(api, "charge", delay="1h")
    wait_state(api, job_id, "scheduled")
    assert post(api, f"/v1/jobs/{job_id}:run-now").status_code == 202
    wait_state(api, job_id, "succeeded")


def test_many_jobs_are_cancelled_by_filter_after_a_dry_run(api: ApiProcess, worker: WorkerThread) -> None:
    ids = [submit(api, "charge", tenant="bulk", delay="1h") for _ in range(5)]
    for job_id in ids:
        wait_state(api, job_id, "scheduled")
    where = {"tenant": "bulk", "queue": "pay"}
    tried = post(api, "/v1/jobs:cancel", where).json()
    assert (tried["state"], tried["dry_run"], tried["counts"]) == ("done", True, {"matched": 5})
    assert api.job(ids[0])["state"] == "scheduled"
    done = post(api, "/v1/jobs:cancel", where | {"dry_run": False}, by="bob").json()
    api.until(lambda: api.http.get(f"/v1/operations/{done['id']}").json()["state"] == "done", "the operation done")
    assert api.http.get(f"/v1/operations/{done['id']}").json()["counts"] == {"matched": 5, "done": 5}
    for job_id in ids:
        assert wait_state(api, job_id, "cancelled")["details"]["cancelled"]["by"] == "bob"
    again = post(api, "/v1/jobs:retry", where | {"dry_run": False}).json()
    for job_id in ids:
        assert wait_state(api, job_id, "succeeded")["replay"] == 1
    events = [item["event"] for item in api.http.get("/v1/audit").json()["items"]]
    assert "jobs.cancel" in events and "jobs.retry" in events and again["by"] == "tester"


def test_a_job_that_no_worker_has_says_that_its_cancel_was_asked_for(api: ApiProcess) -> None:
    job_id = submit(api, "push.send")
    api.job(job_id)
    assert post(api, f"/v1/jobs/{job_id}:cancel", by="ann").status_code == 202
    api.until(lambda: "cancel_requested" in api.job(job_id)["details"], "asked for")
    assert api.job(job_id)["state"] == "queued"
    assert api.job(job_id)["details"]["cancel_requested"]["by"] == "ann"


def test_a_job_whose_record_is_another_ones_by_now_is_not_run_again(api: ApiProcess, kafka: Kafka) -> None:
    partition, offset = kafka.send("jobs.push", b"{}", key="t", headers={"ce_type": "push.send", "ce_id": "somebody"})
    kafka.send_status(
        id="gone", queue="push", tenant="t", group="g", state=State.DEAD, at=1, topic=f"{kafka.prefix}jobs.push",
        partition=partition, offset=offset, type="push.send", rank=5, sequence=1,
    )  # fmt: skip
    api.job("gone")
    answer = post(api, "/v1/jobs/gone:retry")
    assert answer.status_code == 409 and "no longer holds the record" in answer.json()["detail"]
    bulk = post(api, "/v1/jobs:retry", {"queue": "push", "dry_run": False}).json()
    api.until(lambda: api.http.get(f"/v1/operations/{bulk['id']}").json()["state"] == "done", "the operation done")
    counts = api.http.get(f"/v1/operations/{bulk['id']}").json()["counts"]
    assert counts["impossible"] == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/jobs/nobody:cancel", {}, 404),
        ("/v1/jobs/nobody:cancel", {"why": "x"}, 400),
        ("/v1/jobs:cancel", {}, 400),
        ("/v1/jobs:cancel", {"state": ["dead"]}, 400),
        ("/v1/jobs:retry", {"state": ["asleep"]}, 400),
        ("/v1/jobs:retry", {"queue": "pay", "limit": 0}, 400),
        ("/v1/jobs:discard", {"state": ["queued"]}, 400),
        ("/v1/operations/none", None, 405),
    ],
)
def test_what_is_wrong_with_a_command_is_told(api: ApiProcess, path: str, body: Any, status: int) -> None:
    answer = post(api, path, body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_command_needs_a_json_content_type(api: ApiProcess) -> None:
    assert api.http.post("/v1/jobs/x:cancel", content=b"").status_code == 415


def test_breakers_are_figures_for_prometheus() -> None:
    states = {("host:1", "bank"): "open", ("host:2", "bank"): "half-open", ("host:3", "bank"): "closed"}
    text = ApiMetrics().render([], now_ms=0, breakers=states).decode()
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("logqueue_breaker_open{"))
    assert found == {
        'logqueue_breaker_open{breaker="bank",worker="host:1"}': "1.0",
        'logqueue_breaker_open{breaker="bank",worker="host:2"}': "0.5",
        'logqueue_breaker_open{breaker="bank",worker="host:3"}': "0.0",
    }


def test_a_worker_tells_its_breakers_in_its_heartbeats(api: ApiProcess, worker: WorkerThread) -> None:
    api.until(
        lambda: any(item["breakers"] == {"bank": "closed"} for item in api.http.get("/v1/workers").json()["items"]),
        "the breaker shown",
    )
