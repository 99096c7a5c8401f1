"""How long does a job take from POST to its terminal status visible over REST, at a steady rate?"""

from __future__ import annotations

import asyncio
import time

import httpx

from benchmarks import noop, stack
from benchmarks.report import Figures, Settings, percentile
from logqueue.jobs.settings import DEFAULT_PROCESSING

SETTINGS: Settings = {"rate": 100, "seconds": 10, "processing": DEFAULT_PROCESSING}
WARM_UP_JOBS = 50


def run(settings: Settings) -> Figures:
    """POST at the rate, and long-poll each job until it ended."""
    with stack.everything("benchmarks.noop:app", env=stack.processing_env(str(settings["processing"]))) as running:
        return asyncio.run(_measure(running.api, rate=int(settings["rate"]), seconds=int(settings["seconds"])))


async def _measure(api: str, *, rate: int, seconds: int) -> Figures:
    limits = httpx.Limits(max_connections=rate * 2, max_keepalive_connections=rate * 2)
    accepted: list[float] = []
    ended: list[float] = []
    async with httpx.AsyncClient(base_url=api, limits=limits, timeout=30) as client:
        for number in range(WARM_UP_JOBS):
            await _one(client, number, [], [])
        async with asyncio.TaskGroup() as tasks:
            began = time.perf_counter()
            for number in range(rate * seconds):
                await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
                tasks.create_task(_one(client, number, accepted, ended))
    accepted.sort()
    ended.sort()
    return {
        "accepted p50 ms": percentile(accepted, 0.50),
        "accepted p99 ms": percentile(accepted, 0.99),
        "terminal p50 ms": percentile(ended, 0.50),
        "terminal p99 ms": percentile(ended, 0.99),
    }


async def _one(client: httpx.AsyncClient, number: int, accepted: list[float], ended: list[float]) -> None:
    body = {"type": noop.JOB_TYPE, "tenant": f"tenant-{number % noop.TENANTS}", "args": {"number": number}}
    began = time.perf_counter()
    answer = await client.post("/v1/jobs", json=body)
    answer.raise_for_status()
    accepted.append((time.perf_counter() - began) * 1000)
    job = await client.get(answer.headers["location"], params={"wait": "20s"})
    job.raise_for_status()
    if job.json()["state"] != "succeeded":
        raise RuntimeError(f"the job ended otherwise: {job.text}")
    ended.append((time.perf_counter() - began) * 1000)
