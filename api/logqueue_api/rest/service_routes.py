"""/healthz, /readyz, /metrics: what keeps an eye on this process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from typing import Any, Final

from aiokafka.errors import KafkaError
from fastapi import APIRouter
from logqueue_consumers.view.reader import QueueSummary, RunningRow, ViewUnavailable
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from logqueue.errors import LogqueueError
from logqueue.jobs.topics import TopicKind
from logqueue.version import __version__
from logqueue_api.rest.answers import json_answer
from logqueue_api.rest.conditions import MAX_JUDGED, count_conditions
from logqueue_api.rest.metrics import GroupLoad
from logqueue_api.rest.openapi import problems
from logqueue_api.rest.problems import Problem
from logqueue_api.rest.services import Services, ServicesOf
from logqueue_api.rest.worker_routes import state_of

router = APIRouter(tags=["service"])

CHECK_SECONDS: Final = 3.0
MAX_GROUPS: Final = 100  # asked about at one scrape


@router.get("/healthz", responses=problems(503), summary="Whether this process lives")
async def healthz(services: ServicesOf) -> Response:
    """200 as long as the process answers at all. Under `logqueue up` it speaks for the workers too: 503 while one of
    them lives and gets on with nothing although there is work.
    """
    if services.options.counts_workers:
        stuck = services.workers.roster.problems(services.clock.time_ms())
        if stuck:
            raise Problem(503, "; ".join(f"worker {worker}: {problem}" for worker, problem in stuck))
    return json_answer({"status": "ok", "version": __version__})


@router.get("/readyz", responses=problems(503), summary="Whether it can do its work")
async def readyz(services: ServicesOf) -> Response:
    """200 when a broker answers, the fold runs and has caught up with the log; else 503 that says what lacks."""
    checks = {"log": await _check_log(services), "view": _check_view(services)}
    latest = services.view.latest
    document: dict[str, Any] = {
        "bootstrap": services.settings.bootstrap,
        "lag": None if latest is None else latest.lag,
        "checks": {name: problem or "ok" for name, problem in checks.items()},
    }
    lacking = [f"{name}: {problem}" for name, problem in checks.items() if problem]
    if lacking:
        raise Problem(503, "; ".join(lacking), headers={"Retry-After": "1"}, extra=document)
    return json_answer({"status": "ready", **document})


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
async def metrics(services: ServicesOf) -> Response:
    """Jobs by queue and state, requests, and how the view is doing."""
    latest = services.view.latest
    if latest is not None:
        services.metrics.view(lag=latest.lag, is_caught_up=latest.is_caught_up, restarts=services.fold.restarts)
    queues: list[QueueSummary] = []
    running: list[RunningRow] = []
    try:
        queues, running = await services.view.query(lambda reader: (reader.queues(), reader.running(limit=MAX_JUDGED)))
    except ViewUnavailable:
        pass  # the other figures are all the more wanted
    now_ms = services.clock.time_ms()
    text = services.metrics.render(
        queues,
        now_ms=now_ms,
        groups=await group_loads(services),
        workers=Counter((beat.group, state_of(beat, now_ms)) for beat in services.workers.roster.workers(now_ms)),
        conditions=count_conditions(running, services),
        breakers={
            (beat.worker, name): state
            for beat in services.workers.roster.living(now_ms)
            for name, state in beat.breakers.items()
        },
    )
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def group_loads(services: Services) -> list[GroupLoad]:
    """What each group that workers have told of has not finished; without those that the log does not answer for."""
    queues = {(job.group, job.queue) for job in services.view.catalogue.jobs}
    groups = sorted({group for group, _ in queues})[:MAX_GROUPS]
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            found = await asyncio.gather(*(_group_load(services, group, queues) for group in groups))
    except TimeoutError:
        return []
    return [load for loads in found for load in loads]


async def _group_load(services: Services, group: str, queues: Collection[tuple[str, str]]) -> list[GroupLoad]:
    names = services.settings.topics
    try:
        wanted = {names.jobs(queue): queue for of, queue in sorted(queues) if of == group}
        progress = (await services.cluster.group(group, topics=wanted)).progress
    except (Problem, KafkaError, LogqueueError, OSError):
        return []  # unknown to the log, or the log is away: the other figures tell
    incomplete = Counter(dict.fromkeys(wanted.values(), 0))
    for at in progress:
        role = names.role(at.at.topic)
        if role is not None and role.kind is TopicKind.JOBS and role.queue is not None:
            incomplete[role.queue] += at.incomplete
    return [GroupLoad(group, queue, count) for queue, count in incomplete.items()]


async def _check_log(services: Services) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await services.cluster.check()
    except TimeoutError:
        return f"no broker answers at {services.settings.bootstrap} within {CHECK_SECONDS:g} s"
    except Exception as error:  # whatever it is, the answer is that the log cannot be used
        return f"{services.settings.bootstrap}: {error}"
    return None


def _check_view(services: Services) -> str | None:
    latest = services.view.latest
    if services.fold.problem is not None:
        return services.fold.problem
    if latest is None:
        return "the fold has not reported yet"
    if not latest.is_caught_up:
        return f"the view is catching up: {latest.lag} records to go"
    if latest.lag > services.limits.ready_lag:
        return f"the view lags {latest.lag} records behind (ready below {services.limits.ready_lag})"
    return None
