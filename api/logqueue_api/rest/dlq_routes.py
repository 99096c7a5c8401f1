"""/v1/dlq: dead letters of a queue, and sending them round again."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from logqueue_consumers.letters.counts import LetterCount, count_letters
from logqueue_consumers.letters.dead_letters import DeadLetter, DeadLetters, LetterFilter, LetterReplay
from starlette.responses import Response

from logqueue.jobs.errors import ErrorClass
from logqueue.jobs.topics import TopicKind, TopicRole
from logqueue_api.rest.actor import actor_of
from logqueue_api.rest.answers import answer_operation, json_answer, read_limit, read_request
from logqueue_api.rest.aside import aside
from logqueue_api.rest.letter_requests import (
    GROUP_TEXT,
    TOPIC_TEXT,
    LetterRequest,
    ReplayRequest,
    edit_of,
    filter_of,
    pace_of,
)
from logqueue_api.rest.models import DeadLetterList, DeadLetterQueueList, DeadLetterReplay
from logqueue_api.rest.openapi import answers, body_of
from logqueue_api.rest.operations import Operation
from logqueue_api.rest.problems import invalid, not_found, unavailable
from logqueue_api.rest.record_view import show_value
from logqueue_api.rest.services import Services, ServicesOf
from logqueue_api.rest.wire import read_time_ms, time_text

router = APIRouter(tags=["dead letters"])

MAX_LETTERS = 1_000
ANSWER_SECONDS = 20.0
"""A replay that takes longer is answered with how far it is, and looked at as an operation."""


@router.get("/v1/dlq", responses=answers(DeadLetterQueueList, 400, 503), summary="Where there are dead letters")
async def list_dead_letter_queues(services: ServicesOf) -> Response:
    """Each dead-letter topic with its letters; closed ones (replayed, discarded) stay in it."""
    names = services.settings.topics
    roles = {
        topic: role
        for topic in await services.cluster.topics()
        if (role := names.role(topic)) is not None and role.kind is TopicKind.DLQ
    }
    extents = await services.cluster.extents([*roles, names.control])

    async def count(topics: Mapping[str, TopicRole]) -> Mapping[str, LetterCount]:
        return await services.scans.run(lambda: count_letters(services.settings, topics))

    counts = await services.letter_totals.counts(roles, extents, control=names.control, count=count)
    items = [
        {
            "queue": roles[topic].queue,
            "group": roles[topic].group,
            "topic": topic,
            "open": found.open,
            "letters": found.letters,
            "offsets": found.offsets,
        }
        for topic, found in sorted(counts.items())
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
    error_class: Annotated[ErrorClass | None, Query()] = None,
    since: Annotated[str | None, Query(description="Died at or after this time (RFC 3339).")] = None,
    until: Annotated[str | None, Query(description="Died before this time (RFC 3339).")] = None,
    topic: Annotated[str | None, Query(max_length=249, description=TOPIC_TEXT)] = None,
    open: Annotated[bool, Query(description="Only those neither replayed nor discarded.")] = False,  # noqa: A002 - the same
    limit: Annotated[int, Query()] = 50,
) -> Response:
    """`error_*` say why a job died; `preview` is the beginning of its value."""
    size = read_limit(limit, MAX_LETTERS)
    where = LetterFilter(
        type=type,
        tenant=tenant,
        error_type=error_type,
        error_class=error_class,
        since_ms=None if since is None else read_time_ms("since", since),
        until_ms=None if until is None else read_time_ms("until", until),
        open_only=open,
    )
    letters: list[DeadLetter] = []
    if topic is not None:
        await _check_topic(services, topic)
    for name in [group or ""] if group is not None or topic is not None else await _groups(services, queue):
        dead = DeadLetters(services.settings, queue=queue, group=name, topic=topic)
        letters += await services.scans.run(partial(dead.newest, where, limit=size))
    letters.sort(key=lambda letter: letter.died_ms, reverse=True)
    return json_answer({"items": [_document(letter) for letter in letters[:size]]})


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
    topic: Annotated[str | None, Query(max_length=249, description=TOPIC_TEXT)] = None,
) -> Response:
    """`letter` is a job id, or `partition:offset` in the dead-letter topic."""
    name = await _who(services, queue, group, topic, is_known=False)
    dead = DeadLetters(services.settings, queue=queue, group=name, topic=topic)
    found = await services.scans.run(lambda: dead.show(letter))
    if not found:
        raise not_found(f"queue {queue!r} has no dead letter {letter!r} of group {name!r}")
    items = []
    for item, data in found:
        value, value_format = show_value(data)
        if value_format == "base64" and (arguments := await services.scans.run(partial(dead.read_value, data))):
            value, value_format = arguments, "avro"
        items.append(_document(item) | {"value": value, "value_format": value_format})
    return json_answer({"items": items})


@router.post(
    "/v1/dlq/{queue}:replay",
    status_code=202,
    responses=answers(DeadLetterReplay, 400, 404, 409, 413, 415, 503, status=202),
    openapi_extra=body_of(ReplayRequest),
    summary="Send dead letters round again",
)
async def replay_dead_letters(queue: str, request: Request, services: ServicesOf) -> Response:
    """Under the same id, with `replay` one higher and the attempts reset; only the group that gave up runs them."""
    asked = await read_request(ReplayRequest, request, services)
    pace = pace_of(asked)
    group = await _who(services, queue, asked.group, asked.topic, is_known=True)
    edit = edit_of(asked, queue, services)
    dead = DeadLetters(services.settings, queue=queue, group=group, topic=asked.topic)
    by, where = actor_of(request), filter_of(asked)

    async def work(operation: Operation) -> None:
        def tell(done: LetterReplay) -> None:
            _count(operation, done)
            if services.stopping.is_set():
                raise unavailable("the API process ends; ask again for the rest")

        done = await aside(
            lambda: dead.replay(
                where,
                by=by,
                limit=asked.limit,
                dry_run=asked.dry_run,
                again=asked.again,
                pace=pace,
                edit=edit,
                on_progress=tell,
            ),
        )
        _count(operation, done)
        if done.stopped is not None:
            operation.stop(done.stopped)

    return await _answer(services, "dlq:replay", work, asked, queue=queue, group=group, by=by)


@router.post(
    "/v1/dlq/{queue}:discard",
    status_code=202,
    responses=answers(DeadLetterReplay, 400, 404, 409, 413, 415, 503, status=202),
    openapi_extra=body_of(LetterRequest),
    summary="Close dead letters without replaying them",
)
async def discard_dead_letters(queue: str, request: Request, services: ServicesOf) -> Response:
    """They stay in their topic and are not listed as open any more; `replayed` counts them."""
    asked = await read_request(LetterRequest, request, services)
    group = await _who(services, queue, asked.group, asked.topic, is_known=True)
    dead = DeadLetters(services.settings, queue=queue, group=group, topic=asked.topic)
    by, where = actor_of(request), filter_of(asked)

    async def work(operation: Operation) -> None:
        _count(
            operation,
            await aside(lambda: dead.discard(where, by=by, limit=asked.limit, dry_run=asked.dry_run)),
        )

    return await _answer(services, "dlq:discard", work, asked, queue=queue, group=group, by=by)


async def _answer(
    services: Services,
    kind: str,
    work: Callable[[Operation], Coroutine[Any, Any, None]],
    asked: LetterRequest,
    *,
    queue: str,
    group: str,
    by: str,
) -> Response:
    return await answer_operation(
        services,
        kind,
        work,
        by=by,
        dry_run=asked.dry_run,
        seconds=ANSWER_SECONDS,
        facts={"queue": queue, "group": group, "matched": 0, "replayed": 0},
    )


def _count(operation: Operation, done: LetterReplay) -> None:
    operation.counts = {
        "matched": done.matched,
        "replayed": done.replayed,
        "succeeded": done.succeeded,
        "failed": done.failed,
        "ended": done.ended,
    }
    operation.own = list(done.own)


async def _who(services: Services, queue: str, group: str | None, topic: str | None, *, is_known: bool) -> str:
    """The group that is meant; for a foreign topic whichever runs the queue here (`is_known`: there has to be one)."""
    if topic is None:
        return await _one_group(services, queue, group)
    await _check_topic(services, topic)
    found = group or services.view.catalogue.group_of(None, queue=queue)
    if found is None and is_known:
        raise invalid("group", f"no group, or several, run queue {queue!r}; name the one that is to run these jobs")
    return found or ""


async def _check_topic(services: Services, topic: str) -> None:
    if topic not in await services.cluster.topics():
        raise not_found(f"the log has no topic {topic!r}")


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
        "status": letter.status,
        "system": letter.system,
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
