"""How many jobs a second are durably taken in: one at a time, from many callers, in bulk, and over REST?

No worker runs meanwhile, and each way begins when the view knows the jobs of the one before. `confluent-kafka` is a
producer in another language's stead; the others are Python's `.send`, `send_many` and the API. Peers: their own bulk or
fastest documented way, which waits for no disk.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from itertools import islice

from benchmarks.jobs import http, queues
from benchmarks.jobs.app import JOB_TYPE, app, wait
from benchmarks.jobs.http import request, send_all
from benchmarks.jobs.ours import Ours
from benchmarks.report import Figures, Settings, percentile
from logqueue.jobs.sending import PreparedJob
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


def run(settings: Settings, queue: str = queues.OURS) -> Figures:
    """Every way in turn, into one queue."""
    number = {name: int(value) for name, value in settings.items()}
    with queues.running(queue) as running:
        if not isinstance(running, Ours):
            return {BULK: number["bulk"] / running.enqueue(number["bulk"])}
        running.worker(concurrency=1).end()  # has published its definitions: the API checks arguments against them
        figures = {"confluent-kafka jobs/s": number["bulk"] / running.enqueue(number["bulk"])}
        _wait_for_view(running, number["bulk"])
        app.configure(load_settings(bootstrap=running.up.bootstrap))
        figures[BULK] = number["bulk"] / asyncio.run(_bulk(number["bulk"]))
        _wait_for_view(running, 2 * number["bulk"])
        figures.update(asyncio.run(_sends(number)))
        _wait_for_view(running, 2 * number["bulk"] + number["sends"] + number["singles"])
        figures.update(http.run(_rest(running.up.api, number)))
        return figures


def _wait_for_view(running: Ours, jobs: int) -> None:
    if not queues.wait_until(lambda: running.known() >= jobs, limit_seconds=VIEW_SECONDS):
        raise RuntimeError(f"the view knows {running.known()} of {jobs} jobs after {VIEW_SECONDS} s")


async def _bulk(jobs: int) -> float:
    async with app:
        await wait.send(number=0)
        began = time.perf_counter()
        await app.send_many(_prepared(jobs))
        return time.perf_counter() - began


async def _sends(number: dict[str, int]) -> Figures:
    async with app:
        await wait.send(number=0)
        numbers = iter(range(number["sends"]))
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(number["callers"]):
                tasks.create_task(_send_each(numbers))
        together = time.perf_counter() - began
        alone = sorted([await _timed_send(each) for each in range(number["singles"])])
    return {
        f"send from {number['callers']} callers jobs/s": number["sends"] / together,
        "send alone p50 ms": percentile(alone, 0.5) * 1000,
        "send alone p99 ms": percentile(alone, 0.99) * 1000,
    }


def _prepared(count: int) -> Iterator[PreparedJob]:
    return (wait.with_(tenant=f"tenant-{each % 100}").prepare(number=each) for each in range(count))


async def _send_each(numbers: Iterator[int]) -> None:
    for each in numbers:
        await wait.with_(tenant=f"tenant-{each % 100}").send(number=each)


async def _timed_send(number: int) -> float:
    began = time.perf_counter()
    await wait.send(number=number)
    return time.perf_counter() - began


async def _rest(api: str, number: dict[str, int]) -> Figures:
    jobs = ({"type": JOB_TYPE, "tenant": f"tenant-{each % 100}", "args": {"number": each}} for each in range(1 << 30))
    posts = [request("POST", "/v1/jobs", json.dumps(job).encode()) for job in islice(jobs, number["posts"])]
    bodies = [{"jobs": list(islice(jobs, number["batch_jobs"]))} for _ in range(number["batches"])]
    batches = [request("POST", "/v1/jobs:batch", json.dumps(body).encode()) for body in bodies]
    began = time.perf_counter()
    waits = await send_all(api, posts, connections=number["connections"])
    single = time.perf_counter() - began
    began = time.perf_counter()
    await send_all(api, batches, connections=2)
    bulk = time.perf_counter() - began
    return {
        "POST jobs/s": number["posts"] / single,
        "POST p50 ms": percentile(waits, 0.5) * 1000,
        "POST p99 ms": percentile(waits, 0.99) * 1000,
        "POST batch jobs/s": number["batches"] * number["batch_jobs"] / bulk,
    }
