"""/v1/limits, /v1/weights, /v1/kills and the pauses of queues, tenants and types: what operators steer.

Every change is an event in the log, with who and when; workers obey within a second, and after restarts too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.responses import Response

from logqueue.jobs import steering
from logqueue.jobs.control import KILL, LIMIT, MAX_REASON_CHARS
from logqueue.jobs.errors import InvalidArguments
from logqueue_api.rest.actor import actor_of
from logqueue_api.rest.answers import json_answer, read_request
from logqueue_api.rest.models import QueueName, Tenant, TypeName
from logqueue_api.rest.openapi import answers, body_of
from logqueue_api.rest.problems import invalid
from logqueue_api.rest.services import Services, ServicesOf
from logqueue_api.rest.steering_checks import FORCE_TEXT, check_queue, check_standing, check_type
from logqueue_api.rest.wire import check_arguments, time_text, writable

router = APIRouter(tags=["steering"])

T = TypeVar("T")


class PauseRequest(BaseModel):
    """What goes with a pause."""

    model_config = ConfigDict(extra="forbid")

    tenant: Tenant | None = Field(None, description="Only this tenant of the queue.")
    reason: str | None = Field(None, max_length=MAX_REASON_CHARS)
    force: bool = Field(False, description=FORCE_TEXT)


class TypePauseRequest(BaseModel):
    """What goes with a pause of a type."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(None, max_length=MAX_REASON_CHARS)
    force: bool = Field(False, description=FORCE_TEXT)


class LimitSubject(BaseModel):
    """Whose limit: a queue's or a type's for each value of `by`, or that of one tenant of a queue."""

    model_config = ConfigDict(extra="forbid")

    queue: QueueName | None = None
    type: TypeName | None = None
    tenant: Tenant | None = None
    by: str | None = Field(
        None,
        max_length=255,
        description="For each of these: queue, tenant, type, argument:<name>. Default: all of the queue or type.",
    )


class LimitRequest(LimitSubject):
    """A limit. Without `running` and `rate` it lifts the one that is declared in code."""

    running: int | None = Field(None, ge=1, description="At most so many jobs at once.")
    rate: str | None = Field(None, max_length=40, description="At most so many starts in a time: 100/s, 30/m, 5/10s.")
    burst: int | None = Field(None, ge=1, description="So many may start at once after a pause; goes with `rate`.")
    force: bool = Field(False, description=FORCE_TEXT)


class WeightSubject(BaseModel):
    """Whose weight: a tenant's or a priority class's of a queue."""

    model_config = ConfigDict(extra="forbid")

    queue: QueueName
    tenant: Tenant | None = None
    priority: str | None = Field(None, max_length=32)


class WeightRequest(WeightSubject):
    """A weight beside the others of the same kind; 1 is usual."""

    weight: float = Field(ge=steering.MIN_WEIGHT, le=steering.MAX_WEIGHT)
    force: bool = Field(False, description=FORCE_TEXT)


class KillName(BaseModel):
    """A kill switch."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=100)


class KillRequest(KillName):
    """A kill switch: jobs of this type that match everything given end as cancelled instead of running."""

    type: TypeName
    queue: QueueName | None = None
    tenant: Tenant | None = None
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    reason: str | None = Field(None, max_length=MAX_REASON_CHARS)
    force: bool = Field(False, description=FORCE_TEXT)


class SteeringReceipt(BaseModel):
    """A command that the log has."""

    key: str
    by: str
    at: str
    value: dict[str, Any] | None = Field(description="null: the command was taken back")


class SteeringEntry(BaseModel):
    """A command that stands."""

    key: str
    by: str | None
    at: str | None
    value: dict[str, Any]


class SteeringList(BaseModel):
    """Commands that stand."""

    items: list[SteeringEntry]


class LimitEntry(BaseModel):
    """A limit: declared in code or commanded; a commanded one goes before the declared one of the same subject."""

    scope: str
    subject: str
    by: str
    running: int | None
    rate: str | None
    burst: int | None
    source: str = Field(description="declared, commanded")
    commanded_by: str | None
    at: str | None


class LimitList(BaseModel):
    """Limits."""

    items: list[LimitEntry]


MODELS = (
    PauseRequest,
    TypePauseRequest,
    LimitSubject,
    LimitRequest,
    WeightSubject,
    WeightRequest,
    KillName,
    KillRequest,
)
"""Bodies that OpenAPI has to know."""


# --- pauses ---


@router.get("/v1/pauses", responses=answers(SteeringList, 503), summary="What is paused")
async def list_pauses(services: ServicesOf) -> Response:
    """Queues, tenants and types of which no job starts."""
    return json_answer({"items": _standing(services, "pause/")})


async def pause_queue(queue: str, request: Request, services: ServicesOf) -> Response:
    """No job of the queue (or of one tenant of it) starts from now on; jobs that run go on."""
    asked = await read_request(PauseRequest, request, services)
    key = _checked(lambda: steering.pause_key(queue=queue, tenant=asked.tenant))
    await check_queue(queue, services, force=asked.force)
    return await _write(key, steering.reason_value(asked.reason), request, services)


async def resume_queue(queue: str, request: Request, services: ServicesOf) -> Response:
    """Jobs of the queue (or of one tenant of it) start again."""
    asked = await read_request(PauseRequest, request, services)
    key = _checked(lambda: steering.pause_key(queue=queue, tenant=asked.tenant))
    return await _write(key, None, request, services)


async def pause_type(type: str, request: Request, services: ServicesOf) -> Response:  # noqa: A002 - the word
    """No job of the type starts from now on; with order "tenant" later jobs of the same tenant wait behind it."""
    asked = await read_request(TypePauseRequest, request, services)
    key = _checked(lambda: steering.pause_key(type_=type))
    await check_type(type, services, force=asked.force)
    return await _write(key, steering.reason_value(asked.reason), request, services)


async def resume_type(type: str, request: Request, services: ServicesOf) -> Response:  # noqa: A002 - the word
    """Jobs of the type start again."""
    await read_request(TypePauseRequest, request, services)
    return await _write(_checked(lambda: steering.pause_key(type_=type)), None, request, services)


# --- limits ---


@router.get("/v1/limits", responses=answers(LimitList, 503), summary="Limits, declared and commanded")
async def list_limits(services: ServicesOf) -> Response:
    """A tenant's limit is exact; others are divided among workers by the partitions they own."""
    items = []
    for job in services.view.catalogue.jobs:
        for scope, subject, limits in (("queue", job.queue, job.queue_limits), ("type", job.type, job.limits)):
            items += [_limit_entry(scope, subject, limit, source="declared") for limit in limits]
    unique = {(item["scope"], item["subject"], item["by"]): item for item in items}
    commanded = []
    for rest, value in services.control.tail.state.under(LIMIT):
        found = steering.standing_limit(LIMIT + rest, value)
        if found is not None:
            scope, subject, limit = found
            described = {} if limit is None else limit.describe()
            by = described.get("by") or (
                "tenant" if scope == "tenant" else rest.split("/")[2 if scope == "queue" else 1]
            )
            commanded.append(_limit_entry(scope, subject, {**described, "by": by}, source="commanded", value=value))
    return json_answer({"items": [*unique.values(), *commanded]})


async def set_limit(request: Request, services: ServicesOf) -> Response:
    """From now on this holds, before what is declared in code for the same subject."""
    asked = await read_request(LimitRequest, request, services)
    key = _limit_key(asked)
    by = steering.limit_by(queue=asked.queue, tenant=asked.tenant, by=asked.by)
    value = _checked(lambda: steering.limit_value(by=by, running=asked.running, rate=asked.rate, burst=asked.burst))
    await check_queue(asked.queue, services, force=asked.force)
    await check_type(asked.type, services, force=asked.force)
    return await _write(key, value, request, services)


async def remove_limit(request: Request, services: ServicesOf) -> Response:
    """The command is taken back: what is declared in code holds again."""
    asked = await read_request(LimitSubject, request, services)
    key = _limit_key(asked)
    await check_standing(key, "commanded limit", services)
    return await _write(key, None, request, services)


# --- weights ---


@router.get("/v1/weights", responses=answers(SteeringList, 503), summary="Weights that were commanded")
async def list_weights(services: ServicesOf) -> Response:
    """Of tenants and priority classes beside each other."""
    return json_answer({"items": _standing(services, "weight/")})


async def set_weight(request: Request, services: ServicesOf) -> Response:
    """From now on this weight holds."""
    asked = await read_request(WeightRequest, request, services)
    key = _checked(lambda: steering.weight_key(asked.queue, tenant=asked.tenant, priority=asked.priority))
    await check_queue(asked.queue, services, force=asked.force)
    return await _write(key, steering.weight_value(asked.weight), request, services)


async def remove_weight(request: Request, services: ServicesOf) -> Response:
    """The declared weight holds again."""
    asked = await read_request(WeightSubject, request, services)
    key = _checked(lambda: steering.weight_key(asked.queue, tenant=asked.tenant, priority=asked.priority))
    await check_standing(key, "commanded weight", services)
    return await _write(key, None, request, services)


# --- kill switches ---


@router.get("/v1/kills", responses=answers(SteeringList, 503), summary="Kill switches that are thrown")
async def list_kills(services: ServicesOf) -> Response:
    """Jobs that they select end as cancelled instead of running."""
    return json_answer({"items": _standing(services, KILL)})


async def set_kill(request: Request, services: ServicesOf) -> Response:
    """From now on jobs that match end as cancelled instead of running; jobs that run go on."""
    asked = await read_request(KillRequest, request, services)
    check_arguments("arguments", asked.arguments)
    key = _checked(lambda: steering.kill_key(asked.name))
    value = _checked(
        lambda: steering.kill_value(
            type_=asked.type, queue=asked.queue, tenant=asked.tenant, arguments=asked.arguments, reason=asked.reason
        )
    )
    await check_type(asked.type, services, force=asked.force)
    await check_queue(asked.queue, services, force=asked.force)
    if asked.arguments and not asked.force:
        services.view.catalogue.check_selector(asked.arguments, type_=asked.type, queue=asked.queue)
    return await _write(key, value, request, services)


async def remove_kill(request: Request, services: ServicesOf) -> Response:
    """Jobs run again; those that have ended stay ended."""
    asked = await read_request(KillName, request, services)
    key = _checked(lambda: steering.kill_key(asked.name))
    await check_standing(key, "kill switch", services)
    return await _write(key, None, request, services)


_ROUTES: tuple[tuple[str, Any, type[BaseModel], str], ...] = (
    ("/v1/queues/{queue}:pause", pause_queue, PauseRequest, "Pause a queue or one of its tenants"),
    ("/v1/queues/{queue}:resume", resume_queue, PauseRequest, "Resume a queue or one of its tenants"),
    ("/v1/types/{type}:pause", pause_type, TypePauseRequest, "Pause a job type"),
    ("/v1/types/{type}:resume", resume_type, TypePauseRequest, "Resume a job type"),
    ("/v1/limits:set", set_limit, LimitRequest, "Set a limit"),
    ("/v1/limits:remove", remove_limit, LimitSubject, "Take a commanded limit back"),
    ("/v1/weights:set", set_weight, WeightRequest, "Set a weight"),
    ("/v1/weights:remove", remove_weight, WeightSubject, "Take a commanded weight back"),
    ("/v1/kills:set", set_kill, KillRequest, "Throw a kill switch"),
    ("/v1/kills:remove", remove_kill, KillName, "Take a kill switch back"),
)
for path, handler, model, summary in _ROUTES:
    router.post(
        path,
        responses=answers(SteeringReceipt, 400, 404, 413, 503, status=202),
        openapi_extra=body_of(model),
        status_code=202,
        summary=summary,
    )(handler)


def _limit_key(asked: LimitSubject) -> str:
    return _checked(lambda: steering.limit_key(queue=asked.queue, tenant=asked.tenant, type_=asked.type, by=asked.by))


def _checked(make: Callable[[], T]) -> T:
    try:
        return make()
    except InvalidArguments as error:
        raise invalid(error.field or "body", str(error)) from None


async def _write(key: str, value: Mapping[str, Any] | None, request: Request, services: Services) -> Response:
    command = steering.command(key, value, by=actor_of(request), at_ms=services.clock.time_ms())
    await services.operator.writer.write([command])
    document = {"key": key, "by": command.by, "at": time_text(command.at_ms * 1000), "value": value}
    return json_answer(document, status=202)


def _standing(services: Services, prefix: str) -> list[dict[str, Any]]:
    return [
        {
            "key": prefix + rest,
            **_who(value),
            "value": {k: writable(v) for k, v in value.items() if k not in ("by", "at")},
        }
        for rest, value in sorted(services.control.tail.state.under(prefix))
    ]


def _who(value: Mapping[str, Any]) -> dict[str, Any]:
    at = value.get("at")
    by = value.get("by")
    return {
        "by": by if isinstance(by, str) else None,
        "at": time_text(at * 1000) if isinstance(at, int) and at >= 0 else None,
    }


def _limit_entry(
    scope: str, subject: str, limit: Mapping[str, Any], *, source: str, value: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    who = _who(value) if value is not None else {"by": None, "at": None}
    return {
        "scope": scope,
        "subject": subject,
        "by": limit["by"],
        "running": limit.get("running"),
        "rate": limit.get("rate"),
        "burst": limit.get("burst"),
        "source": source,
        "commanded_by": who["by"],
        "at": who["at"],
    }
