"""How fast does the view take statuses in, how fast does it answer, and how large is it?

Every job of the queue has run once and succeeded: of the other states there is none. Questions go over REST on one
connection; the rebuild begins with no view at all, and starting `logqueue up` is in its time. A larger one:
--set jobs=10000000, which takes about ten minutes a run.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import stack
from benchmarks.jobs import http, queues
from benchmarks.jobs.app import JOB_TYPE, QUEUE
from benchmarks.jobs.http import Connection, request, send_all
from benchmarks.jobs.ours import TENANTS, Ours
from benchmarks.report import Figures, Settings, percentile

SETTINGS: Settings = {"jobs": 100_000, "questions": 500, "limit_seconds": 1_200}
PAGE = 50
PAGES = 20
VIEW = "view.sqlite"
API, FOLD = "main api ", "logqueue_consumers.view"


def run(settings: Settings) -> Figures:
    """Fill by running jobs, ask, then delete the view and let it be made again."""
    jobs, limit = int(settings["jobs"]), int(settings["limit_seconds"])
    with tempfile.TemporaryDirectory(prefix="logqueue-bench-") as folder:
        data = Path(folder)
        with stack.everything(data_dir=data) as up:
            ours = Ours(up, {})
            ours.enqueue(jobs)
            queues.drain(ours, jobs, concurrency=100, limit_seconds=limit)
            figures = dict(http.run(_ask(up.api, int(settings["questions"]))))
            figures["API RSS MiB"] = up.part(API).rss_mib()
            figures["fold RSS MiB"] = up.part(FOLD).rss_mib()
        size = sum(path.stat().st_size for path in data.glob(f"{VIEW}*"))
        for path in data.glob(f"{VIEW}*"):
            path.unlink()
        began = time.perf_counter()
        with stack.everything(data_dir=data, ready_seconds=limit) as up:
            _wait_for(Ours(up, {}, is_new=False), jobs, limit)
            took = time.perf_counter() - began
    return {**figures, "view bytes/job": size / jobs, "rebuild s": took, "rebuild jobs/s": jobs / took}


def _wait_for(ours: Ours, jobs: int, limit: int) -> None:
    if not queues.wait_until(lambda: ours.finished() >= jobs, limit_seconds=limit):
        raise RuntimeError(f"the view shows {ours.finished()} of {jobs} jobs as succeeded after {limit} s")


def _jobs(api: str) -> list[dict[str, Any]]:
    """Some jobs, from pages of several tenants."""
    jobs: list[dict[str, Any]] = []
    for tenant in range(PAGES):
        address = f"{api}/v1/jobs?tenant=tenant-{tenant}&limit={PAGE}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            jobs += json.load(answer)["items"]
    return jobs


async def _ask(api: str, count: int) -> Figures:
    choice, known = random.Random(5), _jobs(api)

    def each(make: Callable[[], str]) -> list[str]:
        return [make() for _ in range(count)]

    def a_tenant() -> str:
        return f"tenant=tenant-{choice.randrange(TENANTS)}"

    def a_time() -> str:
        return str(choice.choice(known)["created_at"])

    page = f"/v1/jobs?limit={PAGE}"
    asked = {
        "lookup": each(lambda: f"/v1/jobs/{choice.choice(known)['id']}"),
        "list by tenant": each(lambda: f"{page}&{a_tenant()}"),
        "list by state": [f"{page}&state=succeeded&queue={QUEUE}"] * count,
        "list by tenant and time": each(lambda: f"{page}&{a_tenant()}&until={a_time()}"),
        "list by type and time": each(lambda: f"{page}&type={JOB_TYPE}&until={a_time()}"),
        "list of none by state": [f"{page}&state=dead"] * count,
        "list of none by tenant and state": each(lambda: f"{page}&{a_tenant()}&state=dead"),
        "counts": ["/v1/queues"] * count,
    }
    figures: dict[str, float] = {}
    for name, paths in asked.items():
        waits = await send_all(api, [request("GET", path) for path in paths], connections=1)
        figures |= _percentiles(name, waits)
    return {**figures, **_percentiles("next page", await _walk(api, page, count))}


def _percentiles(name: str, waits: Sequence[float]) -> Figures:
    return {f"{name} p50 ms": percentile(waits, 0.5) * 1000, f"{name} p99 ms": percentile(waits, 0.99) * 1000}


async def _walk(api: str, page: str, count: int) -> list[float]:
    """Go on from page to page, as many as there are or `count`: the seconds that each took, sorted."""
    waits: list[float] = []
    connection = await Connection.open(api)
    try:
        cursor = ""
        while len(waits) < count and cursor is not None:
            began = time.perf_counter()
            answer = await connection.ask(request("GET", f"{page}&cursor={cursor}" if cursor else page))
            waits.append(time.perf_counter() - began)
            cursor = json.loads(answer)["next_cursor"]
    finally:
        connection.close()
    return sorted(waits)
