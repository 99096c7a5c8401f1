"""/v1/schedules: what recurs. List, show, set, pause, resume, run now, remove, restore; the keeper obeys at once."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from logqueue_consumers.writing.outgoing import Outgoing
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.responses import Response

from logqueue.jobs.errors import InvalidArguments, InvalidDefinition
from logqueue.jobs.schedule_book import ScheduleBook
from logqueue.jobs.schedules import (
    DEFAULT_CAP,
    MAX_CAP,
    PARTITION,
    PAUSE,
    RUN,
    SCHEDULE,
    Mark,
    Override,
    Schedule,
    encode,
    new_schedule,
)
from logqueue.jobs.sending import check_tenant
from logqueue_api.rest.actor import actor_of
from logqueue_api.rest.answers import json_answer, read_request
from logqueue_api.rest.models import NoFields, QueueName, Tenant, TypeName
from logqueue_api.rest.openapi import answers, body_of
from logqueue_api.rest.problems import Problem, invalid
from logqueue_api.rest.services import Services, ServicesOf
from logqueue_api.rest.wire import check_arguments, time_text, writable

router = APIRouter(tags=["schedules"])

MAX_SCHEDULES = 10_000
"""One owner holds all of them in memory."""


class ScheduleRequest(BaseModel):
    """A schedule as an operator sets it; it stands above one that code declares under the same name."""

    model_config = ConfigDict(extra="forbid")

    type: TypeName
    queue: QueueName | None = None
    args: dict[str, JsonValue] = Field(default_factory=dict)
    tenant: Tenant | None = None
    cron: str | None = Field(None, max_length=200, description="Five fields, or six with seconds first; or `every`.")
    every: float | str | None = Field(None, description="Seconds, or text such as 10m; counted from 1970.")
    timezone: str = Field("UTC", max_length=100, description="IANA name, for cron.")
    missed: str = Field("latest", description="skip, latest, all")
    cap: int = Field(DEFAULT_CAP, ge=1, le=MAX_CAP, description="At most so many missed runs are made up.")
    overlap: str = Field("allow", description="allow, skip, buffer")
    jitter: float | str = Field(0, description="Each run begins up to this much later.")


class ScheduleEntry(BaseModel):
    """A schedule and how it stands."""

    name: str
    type: str
    queue: str
    tenant: str
    arguments: dict[str, Any]
    cron: str | None
    every: str | None
    timezone: str
    missed: str
    cap: int
    overlap: str
    jitter: str | None
    app: str | None
    source: str = Field(description="declared, set, removed (code declares it; restore brings it back)")
    paused: bool
    paused_by: str | None
    next_at: str | None
    last_at: str | None
    last_job: str | None
    running: list[str]
    fired: int
    skipped: int


class ScheduleList(BaseModel):
    """All schedules, by name."""

    items: list[ScheduleEntry]


class ScheduleReceipt(BaseModel):
    """A change that the log has."""

    name: str
    verb: str
    by: str
    at: str
    job: str | None = Field(description="run: the id of the job that will be made")
    declared: bool = Field(description="Code declares a schedule of this name: `restore` brings it back.")


MODELS = (ScheduleRequest,)
"""Bodies that OpenAPI has to know."""


@router.get("/v1/schedules", responses=answers(ScheduleList, 503), summary="Cron schedules")
async def list_schedules(
    services: ServicesOf,
    removed: Annotated[bool, Query(description="Instead those that code declares and somebody has removed.")] = False,
) -> Response:
    """All schedules, declared in code or set, with their next and last run."""
    book = await _book(services)
    return json_answer({"items": [_entry(book, schedule) for schedule in (book.removed() if removed else book)]})


@router.get("/v1/schedules/{name}", responses=answers(ScheduleEntry, 404, 503), summary="One schedule")
async def show_schedule(name: str, services: ServicesOf) -> Response:
    """One schedule, with its next and last run."""
    book = await _book(services)
    return json_answer(_entry(book, _known(book, name)))


async def set_schedule(name: str, request: Request, services: ServicesOf) -> Response:
    """From now on this schedule holds under its name; runs that are due keep their times if the rhythm is the same."""
    asked = await read_request(ScheduleRequest, request, services)
    check_arguments("args", asked.args)
    type_, queue = services.view.catalogue.resolve(type_=asked.type, queue=asked.queue, where="")
    services.view.catalogue.check(asked.args, type_=type_, queue=queue, where="")
    at_ms, by = services.clock.time_ms(), actor_of(request)
    try:
        schedule = new_schedule(
            name,
            type=type_,
            queue=queue,
            arguments=asked.args,
            tenant=check_tenant(asked.tenant) if asked.tenant is not None else "default",
            cron=asked.cron,
            every=asked.every,
            timezone=asked.timezone,
            missed=asked.missed,
            cap=asked.cap,
            overlap=asked.overlap,
            jitter=asked.jitter,
            by=by,
            at_ms=at_ms,
        )
    except InvalidDefinition as error:
        raise invalid("schedule", str(error)) from None
    except InvalidArguments as error:
        raise invalid(error.field or "schedule", str(error)) from None
    book = await _book(services)
    if book.schedule(name) is None and len(book.names()) >= MAX_SCHEDULES:
        raise Problem(409, f"there are {MAX_SCHEDULES:,} schedules already")
    value = encode(Override(schedule=schedule, by=by, at=at_ms))
    return await _write("set", name, SCHEDULE + name, value, request, services, at_ms=at_ms)


async def pause_schedule(name: str, request: Request, services: ServicesOf) -> Response:
    """No run begins by itself from now on; those that run go on."""
    await _nothing(name, request, services)
    at_ms = services.clock.time_ms()
    value = encode(Mark(by=actor_of(request), at=at_ms))
    return await _write("pause", name, PAUSE + name, value, request, services, at_ms=at_ms)


async def resume_schedule(name: str, request: Request, services: ServicesOf) -> Response:
    """Runs begin again, with the next time; those of the pause are not made up."""
    await _nothing(name, request, services)
    return await _write("resume", name, PAUSE + name, None, request, services, at_ms=services.clock.time_ms())


async def run_schedule(name: str, request: Request, services: ServicesOf) -> Response:
    """One run begins at once, whatever the schedule's pause and overlap say."""
    await _nothing(name, request, services)
    at_ms, number = services.clock.time_ms(), uuid.uuid4().hex
    value = encode(Mark(by=actor_of(request), at=at_ms))
    job = f"{name}@run-{number}"
    return await _write("run", name, f"{RUN}{name}/{number}", value, request, services, at_ms=at_ms, job=job)


async def remove_schedule(name: str, request: Request, services: ServicesOf) -> Response:
    """The schedule ends. One that code declares stays removed until `restore`, or until it is set again."""
    book = await _nothing(name, request, services)
    at_ms = services.clock.time_ms()
    is_declared = book.declared_as(name) is not None
    value = encode(Override(removed=True, by=actor_of(request), at=at_ms)) if is_declared else None
    return await _write("remove", name, SCHEDULE + name, value, request, services, at_ms=at_ms, declared=is_declared)


async def restore_schedule(name: str, request: Request, services: ServicesOf) -> Response:
    """What code declares under this name holds again: it was removed, or another one was set above it."""
    await read_request(NoFields, request, services)
    book = await _book(services)
    if book.declared_as(name) is None:
        _known(book, name)
        raise Problem(409, f"no code declares schedule {name!r}: it was set, so only setting it makes it again")
    if name not in book.overrides:
        raise Problem(409, f"schedule {name!r} stands as code declares it: there is nothing to restore")
    at_ms = services.clock.time_ms()
    return await _write("restore", name, SCHEDULE + name, None, request, services, at_ms=at_ms, declared=True)


_ROUTES: tuple[tuple[str, Any, type[BaseModel], str], ...] = (
    ("set", set_schedule, ScheduleRequest, "Set a schedule"),
    ("pause", pause_schedule, NoFields, "Pause a schedule"),
    ("resume", resume_schedule, NoFields, "Resume a schedule"),
    ("run", run_schedule, NoFields, "Run a schedule once now"),
    ("remove", remove_schedule, NoFields, "Remove a schedule"),
    ("restore", restore_schedule, NoFields, "Bring back the schedule that code declares"),
)
for verb, handler, model, summary in _ROUTES:
    router.post(
        f"/v1/schedules/{{name}}:{verb}",
        responses=answers(ScheduleReceipt, 400, 404, 409, 413, 503, status=202),
        openapi_extra=body_of(model),
        status_code=202,
        summary=summary,
    )(handler)


async def _book(services: Services) -> ScheduleBook:
    return ScheduleBook.of(await services.view.query(lambda reader: reader.schedules()))


def _known(book: ScheduleBook, name: str) -> Schedule:
    schedule = book.schedule(name)
    if schedule is None:
        if book.declared_as(name) is not None:
            raise Problem(404, f"schedule {name!r} was removed; code declares it, and restore brings it back")
        names = [known.name for known in book]
        raise Problem(404, f"there is no schedule {name!r}; there are: {', '.join(names[:20]) or 'none'}")
    return schedule


async def _nothing(name: str, request: Request, services: Services) -> ScheduleBook:
    """A request about a schedule that exists, and nothing else."""
    await read_request(NoFields, request, services)
    book = await _book(services)
    _known(book, name)
    return book


async def _write(
    verb: str,
    name: str,
    key: str,
    value: bytes | None,
    request: Request,
    services: Services,
    *,
    at_ms: int,
    job: str | None = None,
    declared: bool = False,
) -> Response:
    by, writer, names = actor_of(request), services.operator.writer, services.settings.topics
    await writer.learn([names.schedules_spec(), names.audit_spec()])
    await writer.note(f"schedule-{verb}/{name}", by=by, at_ms=at_ms, facts={"key": key})
    await writer.write([], records=[Outgoing(names.schedules, PARTITION, key.encode(), value, [], at_ms)])
    document = {"name": name, "verb": verb, "by": by, "at": time_text(at_ms * 1000), "job": job, "declared": declared}
    return json_answer(document, status=202)


def _entry(book: ScheduleBook, schedule: Schedule) -> dict[str, Any]:
    name = schedule.name
    state, pause = book.states.get(name), book.pauses.get(name)
    next_ms = state.next if state is not None else None
    last_ms = state.last if state is not None else None
    return {
        **schedule.describe(),
        "arguments": {argument: writable(value) for argument, value in schedule.arguments.items()},
        "source": _source(book, name),
        "paused": pause is not None,
        "paused_by": pause.by if pause is not None else None,
        "next_at": None if next_ms is None else time_text((next_ms + schedule.delay_of(next_ms)) * 1000),
        "last_at": None if last_ms is None else time_text(last_ms * 1000),
        "last_job": state.last_id if state is not None else None,
        "running": sorted(state.running) if state is not None else [],
        "fired": state.fired if state is not None else 0,
        "skipped": state.skipped if state is not None else 0,
    }


def _source(book: ScheduleBook, name: str) -> str:
    override = book.overrides.get(name)
    if override is None:
        return "declared"
    return "set" if override.schedule is not None else "removed"
