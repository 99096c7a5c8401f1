"""How fast does the view take statuses in, how fast does it answer, and how large is it?

Every job of the queue has run once. Questions go over REST on one connection; the rebuild begins with no view at all,
and starting `logqueue up` is in its time. A larger one: --set jobs=10000000, which takes about ten minutes a run.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks import stack
from benchmarks.jobs import http, queues
from benchmarks.jobs.app import QUEUE
from benchmarks.jobs.http import request, send_all
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
            figures = dict(http.run(_ask(up.api, _ids(up.api), int(settings["questions"]))))
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


def _ids(api: str) -> list[str]:
    """Ids of some jobs, from pages of several tenants."""
    ids: list[str] = []
    for tenant in range(PAGES):
        address = f"{api}/v1/jobs?tenant=tenant-{tenant}&limit={PAGE}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            ids += [item["id"] for item in json.load(answer)["items"]]
    return ids


async def _ask(api: str, ids: list[str], count: int) -> Figures:
    choice = random.Random(5)
    asked = {
        "lookup": [f"/v1/jobs/{choice.choice(ids)}" for _ in range(count)],
        "list by tenant": [f"/v1/jobs?tenant=tenant-{choice.randrange(TENANTS)}&limit={PAGE}" for _ in range(count)],
        "list by state": [f"/v1/jobs?state=succeeded&queue={QUEUE}&limit={PAGE}" for _ in range(count)],
        "counts": ["/v1/queues"] * count,
    }
    figures: dict[str, float] = {}
    for name, paths in asked.items():
        waits = await send_all(api, [request("GET", path) for path in paths], connections=1)
        figures[f"{name} p50 ms"] = percentile(waits, 0.5) * 1000
        figures[f"{name} p99 ms"] = percentile(waits, 0.99) * 1000
    return figures
