"""What people and autoscalers are told of a group: exactly what is unfinished, and nothing once all has run."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from logqueue import App
from logqueue.jobs.settings import EXACTLY_ONCE, Settings
from tests.conftest import Engine
from tests.consumers.conftest import PATIENCE_S, Log, working
from tests.consumers.exactly_once.marked_shop import THROUGH_TOPICS, Shop
from tests.loops import in_loop
from tests.rest.conftest import ApiProcess


@pytest.fixture
def log(engine: Engine, prefix: str) -> Log:
    return Log(Settings(bootstrap=engine.bootstrap, topic_prefix=f"{prefix}."), prefix)


@pytest.fixture
def own_api(log: Log, tmp_path: Path) -> Iterator[ApiProcess]:
    """An API with the prefix of this test alone."""
    api = ApiProcess(log.settings.bootstrap, log.settings.topic_prefix, tmp_path / "view.db")
    api.wait_ready()
    yield api
    assert api.stop() == 0


class Asked:
    """What the API, the metrics and the command line say of a group; each question is asked in a thread."""

    def __init__(self, api: ApiProcess, log: Log) -> None:
        self._api = api
        self._log = log

    async def get(self, path: str) -> Any:
        return (await asyncio.to_thread(self._api.http.get, path)).json()

    async def metric(self, name: str, wanted: list[float]) -> None:
        """Wait until this group's series of a metric have these values (none while the log is away)."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                text = (await asyncio.to_thread(self._api.http.get, "/metrics")).text
                lines = re.findall(rf'^{name}{{group="{self._log.name}".*}} (\S+)$', text, re.MULTILINE)
                if [float(value) for value in lines] == wanted:
                    return
                await asyncio.sleep(0.05)

    async def told(self, *words: str) -> Any:
        """What a command prints as JSON."""
        plain = {key: value for key, value in os.environ.items() if not key.startswith("LOGQUEUE_")}
        settings = self._log.settings
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "logqueue_api.cli.main", *words, "--json"],
            env=plain | {"LOGQUEUE_BOOTSTRAP": settings.bootstrap, "LOGQUEUE_TOPIC_PREFIX": settings.topic_prefix},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    async def until(self, path: str, is_so: Callable[[Any], bool]) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while not is_so(found := await self.get(path)):
                await asyncio.sleep(0.05)
        return found


@in_loop
async def test_a_group_that_has_run_everything_has_nothing_unfinished_wherever_one_looks(
    log: Log, own_api: ApiProcess, repository: Path
) -> None:
    shop, asked = Shop(log), Asked(own_api, log)
    async with working(shop.app, limits=THROUGH_TOPICS):
        await shop.run_jobs()
        assert await shop.markers() > 0, "or this says nothing"
        path = f"/v1/groups/{log.name}"
        group = await asked.until(path, lambda group: group["lag"] == 0)
        assert group["incomplete"] == 0
        assert {(row["lag"], row["incomplete"]) for row in group["partitions"]} == {(0, 0)}
        assert all(row["committed"] == row["end"] for row in group["partitions"] if row["committed"] is not None)
        # The example for autoscalers: both of its figures.
        _, scaled = yaml.safe_load_all((repository / "deploy" / "keda.yaml").read_text())
        by_type = {trigger["type"]: trigger["metadata"] for trigger in scaled["spec"]["triggers"]}
        assert by_type["metrics-api"]["url"].endswith("/v1/groups/YOUR-APP")
        assert group[by_type["metrics-api"]["valueLocation"]] == 0
        (name,) = re.findall(r"logqueue_\w+", by_type["prometheus"]["query"])
        await asked.metric(name, [0, 0])  # one for each queue
        await asked.metric("logqueue_group_incomplete", [0, 0])
        await asked.until("/v1/workers", lambda found: [worker["lag"] for worker in found["items"]] == [0])
        (listed,) = [item for item in (await asked.told("group", "ls"))["items"] if item["group"] == log.name]
        assert listed["lag"] == listed["incomplete"] == 0
        keepers = await asked.get(f"/v1/groups/{log.settings.topic_prefix}logqueue.keepers")
        assert keepers["lag"] == keepers["incomplete"] == 0
    stopped = await asked.get(path)
    assert stopped["lag"] == stopped["incomplete"] == 0, "nor when its workers have stopped"


@in_loop
async def test_under_way_exactly_the_unfinished_jobs_count(log: Log, own_api: ApiProcess) -> None:
    app, asked, release = (
        App(log.name, settings=log.settings, processing=EXACTLY_ONCE),
        Asked(own_api, log),
        asyncio.Event(),
    )
    app.queue("slow", order="none", partitions=1)

    @app.job("hold", queue="slow")
    async def hold(*, n: int) -> None:
        if n % 2:
            await release.wait()

    async with working(app):
        for n in range(9):
            await hold.send(tenant="t", n=n)
        await log.terminal(count=5)
        path = f"/v1/groups/{log.name}"
        try:
            await asked.until(path, lambda group: group["incomplete"] == 4)
            await asked.metric("logqueue_group_incomplete", [4])
        finally:
            release.set()
        await asked.until(path, lambda group: group["lag"] == 0)
