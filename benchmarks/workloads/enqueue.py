"""How many jobs a second are durably taken in: one at a time, from many callers, in bulk, and over REST?

No worker runs meanwhile, and each way begins when the view knows the jobs of the one before. `confluent-kafka` is a
producer in another language's stead; the others are Python's `.send`, `send_many` and the API. Peers: their own bulk or
fastest documented way, which waits for no disk.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice

from benchmarks.jobs import http, queues
from benchmarks.jobs.app import JOB_TYPE, app, wait
from benchmarks.jobs.http import request, send_all
from benchmarks.jobs.ours import TENANTS, Ours
from benchmarks.report import Figures, Settings, percentile
from logqueue.jobs.settings import load_settings

SETTINGS: Settings = {
    "bulk": 100_000,
    "sends": 5_000,
    "callers": 64,
    "singles": 500,
    "posts": 5_000,
    "connections": 16,
    "batches": 50,
    "batch_jobs": 1_000,
}
PEERS = queues.PEERS
BULK = "bulk jobs/s"
VIEW_SECONDS = 60
Numbers = dict[str, int]
Found = tuple[Figures, int]
"""Figures, and how many jobs were put in."""


def run(settings: Settings, queue: str = queues.OURS) -> Figures:
    """Every way in turn, into one queue."""
    number = {name: int(value) for name, value in settings.items()}
    with queues.running(queue) as running:
        if not isinstance(running, Ours):
            return {BULK: number["bulk"] / running.enqueue(number["bulk"])}
        running.worker(concurrency=1).end()  # has published its definitions: the API checks arguments against them
        figures: dict[str, float] = {"confluent-kafka jobs/s": number["bulk"] / running.enqueue(number["bulk"])}
        entered = number["bulk"]
        app.configure(load_settings(bootstrap=running.up.bootstrap))
        ways = {_bulk: asyncio.run, _from_many: asyncio.run, _alone: asyncio.run, _posts: http.run, _batches: http.run}
        for way, run_loop in ways.items():
            queues.wait_until_known(running, entered, limit_seconds=VIEW_SECONDS)
            found, jobs = run_loop(way(running.up.api, number))
            figures |= found
            entered += jobs
        return figures


async def _bulk(_api: str, number: Numbers) -> Found:
    jobs = number["bulk"]
    async with _warm_app():
        began = time.perf_counter()
        await app.send_many(wait.with_(tenant=_tenant(each)).prepare(number=each) for each in range(jobs))
        return {BULK: jobs / (time.perf_counter() - began)}, jobs


async def _from_many(_api: str, number: Numbers) -> Found:
    numbers = iter(range(number["sends"]))

    async def send_each() -> None:
        for each in numbers:
            await wait.with_(tenant=_tenant(each)).send(number=each)

    async with _warm_app():
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(number["callers"]):
                tasks.create_task(send_each())
        took = time.perf_counter() - began
    return {f"send from {number['callers']} callers jobs/s": number["sends"] / took}, number["sends"]


async def _alone(_api: str, number: Numbers) -> Found:
    waits = []
    async with _warm_app():
        for each in range(number["singles"]):
            began = time.perf_counter()
            await wait.send(number=each)
            waits.append(time.perf_counter() - began)
    waits.sort()
    figures = {
        "send alone p50 ms": percentile(waits, 0.5) * 1000,
        "send alone p99 ms": percentile(waits, 0.99) * 1000,
    }
    return figures, number["singles"]


@asynccontextmanager
async def _warm_app() -> AsyncIterator[None]:
    """The app, connected and with one job sent."""
    async with app:
        await wait.send(number=0)
        yield


def _tenant(number: int) -> str:
    return f"tenant-{number % TENANTS}"


def _bodies(count: int) -> Iterator[dict[str, object]]:
    return ({"type": JOB_TYPE, "tenant": _tenant(each), "args": {"number": each}} for each in range(count))


async def _posts(api: str, number: Numbers) -> Found:
    jobs = number["posts"]
    posts = [request("POST", "/v1/jobs", json.dumps(body).encode()) for body in _bodies(jobs)]
    began = time.perf_counter()
    waits = await send_all(api, posts, connections=number["connections"])
    figures = {
        "POST jobs/s": jobs / (time.perf_counter() - began),
        "POST p50 ms": percentile(waits, 0.5) * 1000,
        "POST p99 ms": percentile(waits, 0.99) * 1000,
    }
    return figures, jobs


async def _batches(api: str, number: Numbers) -> Found:
    jobs = number["batches"] * number["batch_jobs"]
    bodies = _bodies(jobs)
    batches = [
        request("POST", "/v1/jobs:batch", json.dumps({"jobs": list(islice(bodies, number["batch_jobs"]))}).encode())
        for _ in range(number["batches"])
    ]
    began = time.perf_counter()
    await send_all(api, batches, connections=2)
    return {"POST batch jobs/s": jobs / (time.perf_counter() - began)}, jobs
