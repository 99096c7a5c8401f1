"""Replays, exports and workers as people reach them: commands and REST, over an API on each engine."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from logqueue_consumers.control.definitions import definition_records
from logqueue_consumers.heartbeats.beat import Heartbeat, encode
from logqueue_schemas.job_status import RANKS, JobStatus, State

from logqueue.clock import SystemClock
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.case_file import InvalidCase
from logqueue.jobs.errors import EffectDenied
from logqueue.jobs.registry import SchemaRegistry
from logqueue.testing.cases import load_case, load_cases
from tests.consumers.conftest import Log, until, working
from tests.workers import printing_app
from tests.workers.pricing_app import make

APP = Path(__file__).with_name("pricing_app.py")
UNENDED = "a line that is not ended"
COMMAND = [sys.executable, "-m", "logqueue_api.cli.main"]


class Shell:
    """Commands in an environment that knows the log and the API."""

    def __init__(self, log: Log, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.environment = os.environ | {
            "LOGQUEUE_BOOTSTRAP": log.settings.bootstrap,
            "LOGQUEUE_TOPIC_PREFIX": log.settings.topic_prefix,
            "LOGQUEUE_DATA_DIR": str(folder / "data"),
            "PRICING_NAME": log.name,
        }

    def run(self, *words: str, **environment: str) -> tuple[int, Any, str]:
        """Exit code, JSON document on standard output, and standard error."""
        done = subprocess.run(
            [*COMMAND, *words, "--json"],
            capture_output=True,
            text=True,
            env=self.environment | environment,
            cwd=self.folder,
            timeout=60,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None, done.stderr

    @contextmanager
    def api(self, **environment: str) -> Iterator[httpx.Client]:
        """An API that replays the app."""
        words = ["api", "--app", str(APP), "--http-port", "0", "--json"]
        with (self.folder / "api.log").open("wb") as errors:
            process = subprocess.Popen(
                [*COMMAND, *words],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self.environment | environment,
                cwd=self.folder,
            )
        try:
            assert process.stdout is not None
            self.url = json.loads(process.stdout.readline())["api"]
            self.environment["LOGQUEUE_API"] = self.url
            with httpx.Client(base_url=self.url, timeout=20) as http:
                yield http
        finally:
            process.terminate()
            process.wait(20)
            process.stdout.close()


@pytest.mark.timeout(180)
def test_what_ran_under_a_version_is_chosen_replayed_compared_and_exported(log: Log, tmp_path: Path) -> None:
    app = make(log.name, bonus=0, version=1)
    app.configure(log.settings)
    shell = Shell(log, tmp_path)

    async def live() -> list[str]:
        async with working(app):
            jobs = await app.send_many(app.jobs["price"].prepare(tenant=f"t{n}", n=n) for n in range(8))
            await log.terminal(count=8)
            return [job.id for job in jobs]

    ids = asyncio.run(live())
    with shell.api(PRICING_BONUS="5") as http:
        asyncio.run(until(known_to(http, 8), bool))
        query = ["replay", "jobs.pay", str(APP), "--type", "price", "--handler-version", "1"]
        code, document, _ = shell.run(*query, "--group", f"dry{log.name}", "--dry-run")
        assert (code, document["records"]) == (0, 8)
        options = ["--effects", "recorded", "--compare"]
        code, document, errors = shell.run(*query, *options, "--group", f"same{log.name}")
        assert code == 0, errors
        assert document["comparison"]["verdicts"]["same"] == 8
        code, document, _ = shell.run(*query, *options, "--group", f"new{log.name}", PRICING_BONUS="5")
        assert code == 1
        assert document["comparison"]["paths"] == {"/total": 8}
        code, _, _ = shell.run(*query, *options, "--ignore", "/total", "--group", f"ign{log.name}", PRICING_BONUS="5")
        assert code == 0
        code, _, errors = shell.run(*query[:-1], "7", "--group", "x")
        assert (code, "no job in" in errors) == (4, True)
        check_rest_replay(http, log)
        check_export(shell, ids, log, tmp_path)


def test_what_handlers_print_is_not_in_a_replays_output(log: Log, tmp_path: Path) -> None:
    app = printing_app.make(log.name)
    app.configure(log.settings)
    shell = Shell(log, tmp_path)

    async def live() -> None:
        async with app:
            await app.send_many(app.jobs[type_].prepare(text=UNENDED) for type_ in ("say-isolated", "say", "say"))

    asyncio.run(live())
    words = ["replay", "jobs.print", printing_app.__file__, "--from", "0"]
    code, document, errors = shell.run(*words, "--group", f"json{log.name}")
    assert (code, document["succeeded"]) == (0, 3)
    assert errors.count(UNENDED) == 5
    told = subprocess.run(
        [*COMMAND, *words, "--group", f"text{log.name}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=shell.environment,
        timeout=60,
    ).stdout
    assert f"\n{log.settings.topics.jobs('print')} in group text{log.name}: replayed, 3 records" in told


def check_rest_replay(http: httpx.Client, log: Log) -> None:
    """The same over HTTP: the API runs the changed code."""
    group = f"rest{log.name}"
    asked = {"topic": "jobs.pay", "group": group, "query": {"handler_version": "1"}, "compare": True, "effects": "none"}
    answer = http.post("/v1/replays", json=asked, headers={"X-Logqueue-Actor": "ada"})
    assert answer.status_code == 202, answer.text
    assert http.post("/v1/replays", json=asked).status_code == 409

    async def ended() -> dict[str, Any]:
        found: dict[str, Any] = http.get(f"/v1/replays/{group}").json()
        return found

    document = asyncio.run(until(ended, lambda found: found["state"] != "running", patience_s=40))
    assert (document["state"], document["by"], document["done"]) == ("done", "ada", 8), document
    assert document["summary"]["comparison"]["paths"] == {"/total": 8, "/bank": 8}
    assert [item["id"] for item in http.get("/v1/replays").json()["items"]] == [group]
    for wrong in (
        {"topic": "jobs.pay", "group": "g"},
        asked | {"from": 0},
        asked | {"ignore": ["x"]},
        asked | {"no": 1},
    ):
        assert http.post("/v1/replays", json=wrong).status_code == 400
    assert http.get("/v1/replays/unknown").status_code == 404
    commands = [record for record in asyncio.run(log.read(log.settings.topics.control)) if record.key]
    command = next(record for record in commands if record.key == f"replay/{group}".encode())
    assert json.loads(command.value)["by"] == "ada", "an operator's command is an event"


def check_export(shell: Shell, ids: list[str], log: Log, folder: Path) -> None:
    code, _, errors = shell.run("export", ids[3], "-o", "cases/one.jsonl")
    assert code == 2 and "there is no folder cases" in errors and not (folder / "cases").exists()
    (folder / "cases").mkdir()
    code, document, errors = shell.run("export", ids[3], "-o", "cases/one.jsonl")
    assert (code, document["jobs"]) == (0, 1), errors
    case = load_case(folder / "cases" / "one.jsonl")
    assert (case.id, case.tenant, case.args) == (ids[3], "t3", {"n": 3})
    changed = make(log.name, bonus=5, version=2)
    assert case.recorded is not None
    assert case.recorded.result == {"total": 30, "bank": 1003}
    assert case.run(changed) == {"total": 35, "bank": 1003}
    assert case.run(changed, args={"n": 4}, effects="none") == {"total": 45, "bank": None}
    with pytest.raises(EffectDenied):
        case.run(changed, effects="deny")
    code, document, _ = shell.run("export", "--type", "price", "--state", "succeeded", "-n", "5", "-o", "some.jsonl")
    assert (code, document["jobs"]) == (0, 5)
    assert len({case.id for case in load_cases(folder / "some.jsonl")}) == 5
    with pytest.raises(InvalidCase, match="holds 5 jobs"):
        load_case(folder / "some.jsonl")
    assert shell.run("export", "no-such-job", "-o", "x")[0] == 4
    assert shell.run("export", "-o", "x")[0] == 2


def known_to(http: httpx.Client, count: int) -> Any:
    async def all_known() -> bool:
        answer = http.get("/v1/jobs", params={"state": "succeeded"})
        return answer.status_code == 200 and len(answer.json()["items"]) == count

    return all_known


@pytest.mark.timeout(180)
def test_running_jobs_whose_worker_is_gone_are_lost_and_those_past_their_time_stuck(log: Log, tmp_path: Path) -> None:
    shell, names = Shell(log, tmp_path), log.settings.topics
    now_ms = SystemClock().time_ms()

    async def tell() -> None:
        """As workers would: one that writes no more, and one that has a job past its time."""
        app = make(log.name, bonus=0, version=1)
        await ensure_topics(log.settings, [*names.shared_specs(), names.workers_spec()])
        for definition in definition_records(app, names, now_ms):
            await log.produce(definition.topic, definition.value, key=definition.key)
        codec = await SchemaRegistry(log.settings).status_codec()
        for number, (worker, interval_s) in enumerate({"gone:1": 0.1, "late:2": 600.0}.items()):
            beat = Heartbeat(
                worker=worker,
                at=now_ms - 1_000,
                started_at=now_ms - 9_000_000,
                app=log.name,
                group=log.name,
                host="h",
                pid=number,
                interval_s=interval_s,
                queues=("pay",),
                concurrency=4,
                running=1,
            )
            await log.produce(names.workers, encode(beat), key=worker.encode())
            status = JobStatus(
                id=f"job-{worker}",
                queue="pay",
                tenant="t",
                group=log.name,
                state=State.RUNNING,
                at=now_ms * 1000,
                topic=names.jobs("pay"),
                partition=0,
                offset=number,
                type="price",
                shadow=False,
                replay=0,
                attempt=1,
                rank=RANKS[State.RUNNING],
                sequence=1,
                created_at=now_ms * 1000,
                started_at=(now_ms - 3_600_000) * 1000,
                worker=worker,
            )
            await log.produce(names.status, codec.encode(status), key=status.key)

    asyncio.run(tell())
    with shell.api() as http:

        async def queue() -> dict[str, Any]:
            items = http.get("/v1/queues").json().get("items", ())  # the view may not be there yet
            found: dict[str, Any] = next((item for item in items if item["queue"] == "pay"), {})
            return found

        found = asyncio.run(until(queue, lambda found: found.get("lost") == 1 and found["stuck"] == 1, patience_s=40))
        assert found["counts"]["running"] == 2
        assert http.get("/v1/jobs/job-gone:1").json()["condition"] == "lost"
        assert http.get("/v1/jobs/job-late:2").json()["condition"] == "stuck"
        workers = http.get("/v1/workers", params={"group": log.name}).json()["items"]
        assert [(item["worker"], item["state"], item["load"]) for item in workers] == [
            ("gone:1", "lost", 0.25),
            ("late:2", "running", 0.25),
        ]
        assert http.get("/v1/workers/late:2").json()["pid"] == 1
        assert http.get("/v1/workers/nobody:1").status_code == 404
        code, document, _ = shell.run("worker", "ls", "--group", log.name)
        assert (code, [item["state"] for item in document["items"]]) == (0, ["lost", "running"])
