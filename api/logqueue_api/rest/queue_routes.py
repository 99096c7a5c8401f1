"""/v1/queues and /v1/groups: how much there is to do, and how far each group has come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from logqueue_consumers.heartbeats.roster import LOST, STUCK
from logqueue_consumers.view.job import INCOMPLETE_STATES, STATE_NAMES, State
from logqueue_consumers.view.reader import QueueSummary
from starlette.responses import Response

from logqueue.jobs.errors import InvalidDefinition
from logqueue.jobs.topics import TopicKind, TopicNames
from logqueue_api.rest.answers import json_answer, view_headers
from logqueue_api.rest.conditions import MAX_JUDGED, count_conditions
from logqueue_api.rest.models import GroupDocument, GroupList, QueueList
from logqueue_api.rest.openapi import answers
from logqueue_api.rest.services import Services, ServicesOf
from logqueue_api.rest.wire import time_text

router = APIRouter(tags=["queues and groups"])


@router.get("/v1/queues", responses=answers(QueueList, 400, 503), summary="Queues and their jobs by state")
async def list_queues(
    services: ServicesOf,
    group: Annotated[str | None, Query(description="The runs of this replay group instead of the live ones.")] = None,
) -> Response:
    """The counts are kept with every change: they cost the same at ten jobs and at ten million."""
    summaries, running = await services.view.query(
        lambda reader: (reader.queues(shadow=group or ""), [] if group else reader.running(limit=MAX_JUDGED))
    )
    conditions = count_conditions(running, services)
    known = {summary.queue: summary for summary in summaries}
    if not group:
        for queue in _queues_without_jobs(services):
            known.setdefault(queue, QueueSummary(queue=queue, counts={}, oldest_ms={}))
    items = [_queue_document(known[queue], conditions, services) for queue in sorted(known)]
    return json_answer({"items": items}, headers=view_headers(services))


@router.get("/v1/groups", responses=answers(GroupList, 400, 503), summary="Consumer groups")
async def list_groups(services: ServicesOf) -> Response:
    """Every consumer group that the log knows, workers' or not, and the replay groups of the view."""
    groups = await services.cluster.groups()
    return json_answer({"items": [{"group": group, "protocol_type": kind or "consumer"} for group, kind in groups]})


@router.get(
    "/v1/groups/{group}",
    responses=answers(GroupDocument, 400, 404, 503),
    summary="A consumer group's lag and unfinished jobs",
)
async def get_group(group: str, services: ServicesOf) -> Response:
    """`incomplete` is what is left to do: jobs finish in any order, so the commit may lie far behind what is done.

    Parked jobs and retries that wait count; once everything has run it is 0. `oldest_queued_at` is that of the queues
    in which it has something left to do.
    """
    names = services.settings.topics
    queues = {job.queue for job in services.view.catalogue.jobs if job.group == group}
    found = await services.cluster.group(group, topics=_topics_of(names, queues, group))
    unfinished: set[str] = set()
    for progress in found.progress:
        role = names.role(progress.at.topic)
        if role is None or role.queue is None:
            continue
        if role.kind is TopicKind.JOBS:
            queues.add(role.queue)
        if progress.incomplete:
            unfinished.add(role.queue)
    summaries = await services.view.query(lambda reader: reader.queues())
    oldest = [
        summary.oldest_ms[State.QUEUED]
        for summary in summaries
        if summary.queue in queues & unfinished and State.QUEUED in summary.oldest_ms
    ]
    document = {
        "group": found.id,
        "state": found.state,
        "protocol_type": found.protocol_type,
        "members": found.members,
        "lag": sum(progress.lag for progress in found.progress),
        "incomplete": sum(progress.incomplete for progress in found.progress),
        "queues": sorted(queues),
        **_oldest(min(oldest, default=None), services),
        "partitions": [
            {
                "topic": progress.at.topic,
                "partition": progress.at.partition,
                "committed": progress.committed,
                "end": progress.end,
                "lag": progress.lag,
                "incomplete": progress.incomplete,
            }
            for progress in found.progress
        ],
    }
    return json_answer(document, headers=view_headers(services))


def _topics_of(names: TopicNames, queues: set[str], group: str) -> list[str]:
    topics: list[str] = []
    for queue in queues:
        try:
            topics += [names.jobs(queue), names.retry(queue, group), names.parked(queue, group)]
        except InvalidDefinition:
            continue  # published by another version with other rules for names: the commits still tell
    return topics


def _queues_without_jobs(services: Services) -> set[str]:
    return {job.queue for job in services.view.catalogue.jobs}


def _queue_document(summary: QueueSummary, conditions: Counter[tuple[str, str]], services: Services) -> dict[str, Any]:
    catalogue = services.view.catalogue
    counts: Mapping[State, int] = summary.counts
    return {
        "queue": summary.queue,
        "topic": f"{services.settings.topic_prefix}jobs.{summary.queue}",
        "counts": {STATE_NAMES[state]: counts.get(state, 0) for state in State},
        "total": sum(counts.values()),
        "incomplete": sum(counts.get(state, 0) for state in INCOMPLETE_STATES),
        "lost": conditions[summary.queue, LOST],
        "stuck": conditions[summary.queue, STUCK],
        **_oldest(summary.oldest_ms.get(State.QUEUED), services),
        "types": sorted({job.type for job in catalogue.jobs if job.queue == summary.queue}),
        "default_type": catalogue.default_types.get(summary.queue),
    }


def _oldest(oldest_ms: int | None, services: Services) -> dict[str, Any]:
    if oldest_ms is None:
        return {"oldest_queued_at": None, "oldest_queued_age_s": None}
    age_ms = max(services.clock.time_ms() - oldest_ms, 0)
    return {"oldest_queued_at": time_text(oldest_ms * 1000), "oldest_queued_age_s": age_ms / 1000}
