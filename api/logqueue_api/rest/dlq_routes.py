"""/v1/dlq: dead letters of a queue, and sending them round again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from logqueue_consumers.dead_letters import DeadLetter, DeadLetters, LetterFilter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from logqueue.jobs.topics import TopicKind
from logqueue_api.rest.answers import json_answer, read_body
from logqueue_api.rest.models import DeadLetterList, DeadLetterQueueList, DeadLetterReplay
from logqueue_api.rest.openapi import answers, body_of
from logqueue_api.rest.problems import Problem, faults_of, invalid, not_found
from logqueue_api.rest.record_view import show_value
from logqueue_api.rest.services import Services, ServicesOf
from logqueue_api.rest.wire import read_json, time_text

T = TypeVar("T")

router = APIRouter(tags=["dead letters"])

MAX_LETTERS = 1_000
MAX_REPLAYED = 10_000  # in one request; ask again for more
GROUP_TEXT = "The group whose dead letters are meant; needed where several groups have some of this queue."


class ReplayRequest(BaseModel):
    """Which dead letters to send round again, oldest first. Letters replayed before are left out unless named by id."""

    model_config = ConfigDict(extra="forbid")

    group: str | None = Field(None, description=GROUP_TEXT)
    ids: list[str] = Field(default_factory=list, max_length=MAX_REPLAYED, description="Job ids; empty: all that match.")
    type: str | None = None
    tenant: str | None = None
    error_type: str | None = None
    error_class: str | None = None
    limit: int = Field(1_000, ge=1, le=MAX_REPLAYED)
    dry_run: bool = Field(False, description="Only count.")


@router.get("/v1/dlq", responses=answers(DeadLetterQueueList, 400, 503), summary="Where there are dead letters")
async def list_dead_letter_queues(services: ServicesOf) -> Response:
    """Each dead-letter topic with the records it holds, replayed ones included."""
    names = services.settings.topics
    roles = {topic: role for topic in await services.cluster.topics() if (role := names.role(topic)) is not None}
    counts = await services.cluster.record_counts([t for t, role in roles.items() if role.kind is TopicKind.DLQ])
    items = [
        {"queue": roles[topic].queue, "group": roles[topic].group, "topic": topic, "records": count}
        for topic, count in sorted(counts.items())
    ]
    return json_answer({"items": items})


@router.get("/v1/dlq/{queue}", responses=answers(DeadLetterList, 400, 404, 503), summary="Dead letters, newest first")
async def list_dead_letters(
    queue: str,
    services: ServicesOf,
    group: Annotated[str | None, Query(description=GROUP_TEXT)] = None,
    type: Annotated[str | None, Query(max_length=255)] = None,  # noqa: A002 - the word of the API
    tenant: Annotated[str | None, Query(max_length=255)] = None,
    error_type: Annotated[str | None, Query(max_length=255)] = None,
    error_class: Annotated[str | None, Query(max_length=50)] = None,
    open: Annotated[bool, Query(description="Only those not replayed yet.")] = False,  # noqa: A002 - the same
    limit: Annotated[int, Query()] = 50,
) -> Response:
    """`error_*` say why a job died; `preview` is the beginning of its value."""
    if not 1 <= limit <= MAX_LETTERS:
        raise invalid("limit", f"must be from 1 to {MAX_LETTERS}")
    where = LetterFilter(type=type, tenant=tenant, error_type=error_type, error_class=error_class, open_only=open)
    letters: list[DeadLetter] = []
    for name in [group] if group is not None else await _groups(services, queue):
        dead = DeadLetters(services.settings, queue=queue, group=name)
        letters += await _aside(services, lambda dead=dead: dead.newest(where, limit=limit))  # type: ignore[misc]
    letters.sort(key=lambda letter: letter.died_ms, reverse=True)
    return json_answer({"items": [_document(letter) for letter in letters[:limit]]})


@router.get(
    "/v1/dlq/{queue}/{letter:path}",
    responses=answers(DeadLetterList, 400, 404, 503),
    summary="The dead letters of one job, with their values",
)
async def get_dead_letter(
    queue: str,
    letter: str,
    services: ServicesOf,
    group: Annotated[str | None, Query(description=GROUP_TEXT)] = None,
) -> Response:
    """`letter` is a job id, or `partition:offset` in the dead-letter topic."""
    name = await _one_group(services, queue, group)
    dead = DeadLetters(services.settings, queue=queue, group=name)
    found = await _aside(services, lambda: dead.show(letter))
    if not found:
        raise not_found(f"queue {queue!r} has no dead letter {letter!r} of group {name!r}")
    items = []
    for item, data in found:
        value, value_format = show_value(data)
        items.append(_document(item) | {"value": value, "value_format": value_format})
    return json_answer({"items": items})


@router.post(
    "/v1/dlq/{queue}:replay",
    status_code=202,
    responses=answers(DeadLetterReplay, 400, 404, 413, 415, 503, status=202),
    openapi_extra=body_of(ReplayRequest),
    summary="Send dead letters round again",
)
async def replay_dead_letters(queue: str, request: Request, services: ServicesOf) -> Response:
    """Under the same id, with `replay` one higher and the attempts reset; only the group that gave up runs them."""
    body = await read_body(request, max_bytes=services.limits.max_body_bytes)
    asked = _read_replay(body)
    group = await _one_group(services, queue, asked.group)
    where = LetterFilter(
        ids=frozenset(asked.ids),
        type=asked.type,
        tenant=asked.tenant,
        error_type=asked.error_type,
        error_class=asked.error_class,
        open_only=not asked.ids,
    )
    dead = DeadLetters(services.settings, queue=queue, group=group)
    done = await _aside(services, lambda: dead.replay(where, limit=asked.limit, dry_run=asked.dry_run))
    document = {
        "queue": queue,
        "group": group,
        "matched": done.matched,
        "replayed": done.replayed,
        "dry_run": done.is_dry_run,
    }
    return json_answer(document, status=202)


async def _aside(services: Services, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run what reads a whole topic in a thread with a loop of its own: it must not delay anybody's lookup."""
    async with services.scans:
        return await asyncio.to_thread(lambda: asyncio.run(ask()))


async def _groups(services: Services, queue: str) -> list[str]:
    """The groups that have a dead-letter topic of this queue; 404 if the queue is unknown altogether."""
    names = services.settings.topics
    roles = [names.role(topic) for topic in await services.cluster.topics()]
    if not any(role is not None and role.queue == queue for role in roles):
        raise not_found(f"there is no queue {queue!r}")
    return sorted(
        role.group
        for role in roles
        if role is not None and role.kind is TopicKind.DLQ and role.queue == queue and role.group is not None
    )


async def _one_group(services: Services, queue: str, group: str | None) -> str:
    groups = await _groups(services, queue)
    if group is not None:
        if group not in groups:
            raise not_found(f"group {group!r} has no dead letters of queue {queue!r}")
        return group
    if len(groups) > 1:
        raise invalid("group", f"several groups have dead letters of queue {queue!r}: {', '.join(groups)}; name one")
    if not groups:
        raise not_found(f"queue {queue!r} has no dead letters")
    return groups[0]


def _read_replay(body: bytes) -> ReplayRequest:
    document = read_json(body) if body.strip() else {}
    if not isinstance(document, dict):
        raise invalid("body", "not a JSON object")
    try:
        return ReplayRequest.model_validate(document)
    except ValidationError as error:
        faults = faults_of(error)
        raise Problem(400, "; ".join(f"{f.field}: {f.detail}" for f in faults[:5]), faults=faults) from None


def _document(letter: DeadLetter) -> dict[str, Any]:
    error = {"type": letter.error_type, "message": letter.error_message, "class": letter.error_class}
    origin = {"topic": letter.origin_topic, "partition": letter.origin_partition, "offset": letter.origin_offset}
    return {
        "id": letter.id,
        "type": letter.type,
        "queue": letter.queue,
        "tenant": letter.tenant,
        "group": letter.group,
        "attempt": letter.attempt,
        "replay": letter.replay,
        "is_open": letter.is_open,
        "died_at": time_text(letter.died_ms * 1000),
        "first_failed_at": None if letter.first_failed_ms is None else time_text(letter.first_failed_ms * 1000),
        "error": error if letter.error_type is not None else None,
        "origin": origin if letter.origin_topic is not None else None,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "size": letter.size,
        "preview": letter.preview,
        "headers": letter.headers,
    }
