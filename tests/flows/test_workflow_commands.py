"""Workflows as the view, the API and the command line show them, and cancel them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logqueue import Retry
from logqueue.jobs.errors import Permanent
from tests.conftest import Engine
from tests.consumers.conftest import Log, working
from tests.rest.conftest import ApiProcess


@pytest.fixture
def api(engine: Engine, log: Log, tmp_path: Path) -> Iterator[ApiProcess]:
    process = ApiProcess(engine.bootstrap, log.settings.topic_prefix, tmp_path / "view.db")
    process.wait_ready()
    yield process
    assert process.stop() == 0


def run_cli(api: ApiProcess, *words: str) -> Any:
    """In a process of its own: the worker in this one writes its log to the same output."""
    command = [sys.executable, "-m", "logqueue_api.cli.main", *words, "--api", api.url, "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout)


def test_a_workflow_is_listed_shown_with_its_nodes_and_cancelled(api: ApiProcess, log: Log) -> None:
    ready, done = threading.Event(), threading.Event()
    sent: dict[str, str] = {}

    async def work() -> None:
        app = log.app()

        @app.job("good")
        async def good() -> int:
            return 1

        @app.job("bad", retry=Retry(attempts=1))
        async def bad() -> None:
            raise Permanent("no")

        @app.job("slow")
        async def slow() -> None:
            await asyncio.sleep(600)

        async with working(app):
            failing = app.workflow("failing").add("a", good.prepare()).add("b", bad.prepare(), after="a")
            failing.add("c", good.prepare(), after={"b": "fail"})
            long = app.workflow("long").add("a", slow.prepare()).add("b", good.prepare(), after="a")
            first = await failing.send(tenant="acme")
            second = await long.send(tenant="globex")
            await first.wait()
            sent.update(failing=first.id, long=second.id)
            ready.set()
            await asyncio.to_thread(done.wait)
            assert (await second.wait()).state == "cancelled"

    worker = threading.Thread(target=lambda: asyncio.run(work()))
    worker.start()
    try:
        assert ready.wait(30)
        api.until(lambda: api.http.get(f"/v1/workflows/{sent['failing']}").json().get("state") == "failed", "failed")
        shown = run_cli(api, "workflow", "show", sent["failing"])
        assert shown["counts"] == {"cancelled": 1, "dead": 1, "succeeded": 1}
        nodes = {node["node"]: node for node in shown["nodes"]}
        assert {name: node["state"] for name, node in nodes.items()} == {
            "a": "succeeded",
            "b": "dead",
            "c": "cancelled",
        }
        assert nodes["b"]["error"]["message"] == "no"
        assert nodes["c"]["after"] == {"b": "fail"}
        api.until(lambda: _node(api, sent["long"], "a") == "running", "running")
        assert _node(api, sent["long"], "b") == "blocked"
        blocked = api.job(f"{sent['long']}.b")
        assert (blocked["state"], blocked["details"]["blocked_on"]) == ("blocked", ["a"])
        assert [flow["name"] for flow in run_cli(api, "workflow", "ls", "--state", "running")["items"]] == ["long"]
        assert [flow["name"] for flow in run_cli(api, "workflow", "ls", "--tenant", "acme")["items"]] == ["failing"]
        dry = run_cli(api, "workflow", "cancel", sent["long"], "--dry-run")
        assert (dry["accepted"], dry["nodes"]) == (False, 2)
        assert run_cli(api, "workflow", "cancel", sent["long"], "--by", "tester")["accepted"] is True
        api.until(lambda: api.http.get(f"/v1/workflows/{sent['long']}").json()["state"] == "cancelled", "cancelled")
        assert api.http.get(f"/v1/workflows/{sent['long']}").json()["cancelled_by"] == "tester"
        again = api.http.post(f"/v1/workflows/{sent['long']}:cancel", json={})
        assert again.status_code == 409
    finally:
        done.set()
        worker.join(30)
    assert not worker.is_alive()
    _check_pages(api, sent)
    _check_bad_input(api)


def _node(api: ApiProcess, flow: str, name: str) -> str | None:
    nodes = api.http.get(f"/v1/workflows/{flow}").json().get("nodes", [])
    return next((node["state"] for node in nodes if node["node"] == name), None)


def _check_pages(api: ApiProcess, sent: dict[str, str]) -> None:
    first = api.http.get("/v1/workflows", params={"limit": 1}).json()
    second = api.http.get("/v1/workflows", params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert [page["items"][0]["id"] for page in (first, second)] == [sent["long"], sent["failing"]]
    assert second["next_cursor"] is None
    names, place = [], ""
    while place is not None:
        page = api.http.get(f"/v1/workflows/{sent['failing']}", params={"limit": 2, "after_node": place}).json()
        names += [node["node"] for node in page["nodes"]]
        place = page["next_node"]
    assert names == ["a", "b", "c"]


def _check_bad_input(api: ApiProcess) -> None:
    assert api.http.get("/v1/workflows/none").status_code == 404
    assert api.http.post("/v1/workflows/none:cancel", json={}).status_code == 404
    assert api.http.get("/v1/workflows", params={"state": "odd"}).status_code == 400
    assert api.http.get("/v1/workflows", params={"cursor": "odd"}).status_code == 400
    assert api.http.get("/v1/workflows", params={"limit": 0}).status_code == 400
