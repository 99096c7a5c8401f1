"""How long from submitting a job until it is accepted, and until its end is with its caller, at a steady rate?

Ours over REST: POST, then a GET that waits for the end; both times count from the POST. Kept-open connections, and a
client of a few lines on the same processors. Peers as their clients wait for a result; those on Redis are not durable.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

from benchmarks import stack
from benchmarks.jobs import http, queues
from benchmarks.jobs.app import JOB_TYPE
from benchmarks.jobs.http import Connection, request
from benchmarks.jobs.ours import APP, TENANTS
from benchmarks.report import Figures, Settings, percentile
from logqueue.jobs.settings import DEFAULT_PROCESSING

SETTINGS: Settings = {"rate": 100, "seconds": 10, "processing": DEFAULT_PROCESSING, "concurrency": 10}
PEERS = queues.WITH_RESULTS
WARM_UP_JOBS = 50
CONNECTIONS = 64
"""Open connections, of which a job holds one until its end; at least the rate times the latency are needed."""
LIMIT_SECONDS = 60
Times = list[tuple[float, float]]


def run(settings: Settings, queue: str = queues.OURS) -> Figures:
    """Submit at the rate, one job at a time in the warm-up; milliseconds."""
    rate, concurrency = int(settings["rate"]), int(settings["concurrency"])
    jobs = rate * int(settings["seconds"])
    if queue == queues.OURS:
        env = stack.worker_env(settings)
        with stack.everything(APP, "--concurrency", str(concurrency), env=env) as running:
            times = http.run(_measure(running.api, jobs=jobs, rate=rate))
    else:
        times = _measure_peer(queue, jobs, rate=rate, concurrency=concurrency)
    accepted = sorted(time for time, _ in times)
    ended = sorted(time for _, time in times)
    return {
        "accepted p50 ms": percentile(accepted, 0.50),
        "accepted p99 ms": percentile(accepted, 0.99),
        "terminal p50 ms": percentile(ended, 0.50),
        "terminal p99 ms": percentile(ended, 0.99),
    }


def _measure_peer(name: str, jobs: int, *, rate: int, concurrency: int) -> Times:
    with queues.running(name) as peer:
        assert isinstance(peer, queues.Peer)
        worker = peer.worker(concurrency=concurrency)
        try:
            peer.latency(WARM_UP_JOBS, rate=rate)
            return peer.latency(jobs, rate=rate)
        finally:
            worker.end()


async def _measure(api: str, *, jobs: int, rate: int) -> Times:
    connections = [await Connection.open(api) for _ in range(CONNECTIONS)]
    try:
        for number in range(WARM_UP_JOBS):
            await _one(connections[number % CONNECTIONS], number, time.perf_counter())
        return await _steadily(connections, jobs=jobs, rate=rate)
    finally:
        for connection in connections:
            connection.close()


async def _steadily(connections: Sequence[Connection], *, jobs: int, rate: int) -> Times:
    """Each job at its time, whatever became of the earlier ones; waiting for a connection is in its times."""
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for connection in connections:
        free.put_nowait(connection)
    times: Times = []

    async def submit(number: int) -> None:
        began = time.perf_counter()
        connection = await free.get()
        times.append(await _one(connection, number, began))
        free.put_nowait(connection)

    began = time.perf_counter()
    async with asyncio.timeout(LIMIT_SECONDS + jobs / rate), asyncio.TaskGroup() as tasks:
        for number in range(jobs):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            tasks.create_task(submit(number))
    return times


async def _one(connection: Connection, number: int, began: float) -> tuple[float, float]:
    body = {"type": JOB_TYPE, "tenant": f"tenant-{number % TENANTS}", "args": {"number": number}}
    answer = json.loads(await connection.ask(request("POST", "/v1/jobs", json.dumps(body).encode())))
    accepted = time.perf_counter()
    job = json.loads(await connection.ask(request("GET", f"/v1/jobs/{answer['id']}?wait=20s")))
    ended = time.perf_counter()
    if job["state"] != "succeeded":
        raise RuntimeError(f"the job ended otherwise: {job}")
    return (accepted - began) * 1000, (ended - began) * 1000
