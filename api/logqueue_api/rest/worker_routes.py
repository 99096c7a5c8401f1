"""/v1/workers: who works, on what, and who is gone."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from logqueue_consumers.heartbeats.beat import Heartbeat
from logqueue_consumers.heartbeats.roster import LOST, STUCK
from starlette.responses import Response

from logqueue_api.rest.answers import json_answer
from logqueue_api.rest.models import WorkerDocument, WorkerList
from logqueue_api.rest.openapi import answers
from logqueue_api.rest.problems import not_found
from logqueue_api.rest.services import ServicesOf
from logqueue_api.rest.wire import time_text

router = APIRouter(tags=["workers"])


@router.get("/v1/workers", responses=answers(WorkerList, 400, 503), summary="Worker processes")
async def list_workers(
    services: ServicesOf,
    group: Annotated[str | None, Query(description="Only those of this group.")] = None,
) -> Response:
    """Those that ended in good order are gone from the list; a `lost` one is shown for an hour."""
    now_ms = services.clock.time_ms()
    beats = services.workers.roster.workers(now_ms)
    return json_answer(
        {"items": [worker_document(beat, now_ms=now_ms) for beat in beats if group in (None, beat.group)]}
    )


@router.get("/v1/workers/{worker}", responses=answers(WorkerDocument, 400, 404, 503), summary="One worker process")
async def get_worker(worker: str, services: ServicesOf) -> Response:
    """`worker` is its name, `host:pid`, as in the statuses of jobs."""
    beat = services.workers.roster.get(worker)
    if beat is None:
        raise not_found(f"no worker {worker!r} is known")
    return json_answer(worker_document(beat, now_ms=services.clock.time_ms()))


def state_of(beat: Heartbeat, now_ms: int) -> str:
    """What people are told a worker does: what it says, unless that is too long ago or nothing gets on."""
    if not beat.is_alive(now_ms):
        return LOST
    return STUCK if beat.problem is not None else beat.state


def worker_document(beat: Heartbeat, *, now_ms: int) -> dict[str, Any]:
    """A worker as the API shows it."""
    return {
        "worker": beat.worker,
        "app": beat.app,
        "group": beat.group,
        "state": state_of(beat, now_ms),
        "problem": beat.problem,
        "host": beat.host,
        "pid": beat.pid,
        "instance_id": beat.instance_id,
        "started_at": time_text(beat.started_at * 1000),
        "last_seen_at": time_text(beat.at * 1000),
        "last_seen_s": max(now_ms - beat.at, 0) / 1000,
        "queues": list(beat.queues),
        "concurrency": beat.concurrency,
        "running": beat.running,
        "ready": beat.ready,
        "delayed": beat.delayed,
        "held": beat.held,
        "unfinished": beat.unfinished,
        "lag": beat.lag,
        "done": beat.done,
        "succeeded": beat.succeeded,
        "dead": beat.dead,
        "retried": beat.retried,
        "interrupted": beat.interrupted,
        "load": round(beat.running / beat.concurrency, 3) if beat.concurrency else 0.0,
        "partitions": beat.partitions,
        "breakers": beat.breakers,
        "versions": beat.versions,
        "oldest": [
            {
                "id": job.id,
                "type": job.type,
                "started_at": time_text(job.started_at * 1000),
                "deadline_at": None if job.deadline_at is None else time_text(job.deadline_at * 1000),
            }
            for job in beat.oldest
        ],
    }
