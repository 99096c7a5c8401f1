"""/v1/replays: run history again in a shadow group, look how far it is, see what differs.

Only replays that were started here: `logqueue replay` runs on its own; what it came to is in the view, by its group.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from logqueue.jobs.control import Command
from logqueue.jobs.errors import InvalidDefinition
from logqueue.jobs.topics import check_group
from logqueue_api.rest.actor import actor_of
from logqueue_api.rest.answers import json_answer, read_body, read_request
from logqueue_api.rest.models import NoFields
from logqueue_api.rest.openapi import answers, body_of
from logqueue_api.rest.problems import Problem, faults_of, invalid, not_found
from logqueue_api.rest.replay_runs import ReplayRun
from logqueue_api.rest.services import Services, ServicesOf
from logqueue_api.rest.wire import read_json

router = APIRouter(tags=["replays"])


class ReplayQuery(BaseModel):
    """Jobs by what is known of them."""

    model_config = ConfigDict(extra="forbid")

    type: str | None = None
    tenant: str | None = None
    state: str | None = Field(None, description="One or more states, with commas.")
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    handler_version: str | None = Field(None, description="`version=` of the handler that ran them.")


class ReplayStart(BaseModel):
    """Which records to run again, and how. `from` and `to`, or `query`."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    topic: str = Field(description="jobs.<queue>, or a retry, dlq or parked topic.")
    group: str = Field(description="The shadow group; the same one goes on where it was.")
    from_: int | AwareDatetime | None = Field(
        None, alias="from", description="An offset (in every partition) or a time."
    )
    to: int | AwareDatetime | None = Field(None, description="Before this; the end as it is now.")
    query: ReplayQuery | None = None
    effects: Literal["deny", "none", "recorded"] = Field("deny", description="What ctx.effect does.")
    compare: bool = Field(False, description="Set results beside those of the live runs.")
    ignore: list[str] = Field(default_factory=list, max_length=100, description="Paths of results that do not count.")
    concurrency: int | None = Field(None, ge=1, le=10_000)


class ReplayDocument(BaseModel):
    """A replay and how far it is. `summary` once it has ended, with `comparison` if that was asked for."""

    id: str
    topic: str
    group: str
    state: str = Field(description="running, done, stopped, failed")
    by: str
    done: int
    total: int | None
    summary: dict[str, Any] | None
    detail: str | None
    started_at: str
    finished_at: str | None


class ReplayList(BaseModel):
    """Replays that were started over this API process, the newest first; not those of `logqueue replay`."""

    items: list[ReplayDocument]


@router.post(
    "/v1/replays",
    status_code=202,
    responses=answers(ReplayDocument, 400, 409, 413, 415, 503, status=202),
    openapi_extra=body_of(ReplayStart),
    summary="Run history again in a shadow group",
)
async def post_replay(request: Request, services: ServicesOf) -> Response:
    """The live group, its offsets and its statuses are not touched. Needs an API that was started for an app.

    Handlers run for real: only what they do through `ctx.effect` is kept from happening.
    """
    asked = _read(await read_body(request, max_bytes=services.limits.max_body_bytes))
    app = services.options.app
    if app is None:
        raise Problem(409, "this API was started without an app: `logqueue up APP` or `logqueue api --app APP` has one")
    by = actor_of(request)

    async def note(run: ReplayRun) -> None:
        value = {"topic": asked.topic, "effects": asked.effects, "compare": asked.compare}
        command = Command(key=f"replay/{asked.group}", by=by, at_ms=run.started_ms, value=value)
        await services.operator.writer.write([command])

    words = _words(asked, app)
    run = await services.replays.start(words, group=asked.group, topic=asked.topic, by=by, note=note)
    return json_answer(run.document(), status=202, headers={"Location": f"/v1/replays/{asked.group}"})


@router.get("/v1/replays", responses=answers(ReplayList, 400), summary="Replays started over this API")
async def list_replays(services: ServicesOf) -> Response:
    """Not those of the command `logqueue replay`. What any replay came to stays in the view: `/v1/jobs?group=`."""
    return json_answer({"items": [run.document() for run in services.replays.all()]})


@router.get("/v1/replays/{group}", responses=answers(ReplayDocument, 400, 404), summary="One replay")
async def get_replay(group: str, services: ServicesOf) -> Response:
    """How far it is, and what it came to."""
    return json_answer(_find(services, group).document())


@router.post(
    "/v1/replays/{group}:stop",
    status_code=202,
    responses=answers(ReplayDocument, 400, 404, 413, 415, status=202),
    openapi_extra=body_of(NoFields),
    summary="Stop one",
)
async def stop_replay(group: str, request: Request, services: ServicesOf) -> Response:
    """Running jobs are finished; the same request goes on where it was."""
    await read_request(NoFields, request, services)
    run = _find(services, group)
    services.replays.stop(run)
    return json_answer(run.document(), status=202)


def _find(services: Services, group: str) -> ReplayRun:
    run = services.replays.get(group)
    if run is None:
        raise not_found(
            f"this API process ran no replay in group {group!r}; what `logqueue replay` ran there is in /v1/jobs?group="
        )
    return run


def _read(body: bytes) -> ReplayStart:
    document = read_json(body)
    if not isinstance(document, dict):
        raise invalid("body", "not a JSON object")
    try:
        asked = ReplayStart.model_validate(document)
        check_group(asked.group)
    except ValidationError as error:
        faults = faults_of(error)
        raise Problem(400, "; ".join(f"{f.field}: {f.detail}" for f in faults[:5]), faults=faults) from None
    except InvalidDefinition as error:
        raise invalid("group", str(error)) from None
    if (asked.from_ is None) == (asked.query is None):
        raise invalid("from", "say which records: `from`, or `query`")
    if any(not path.startswith("/") for path in asked.ignore):
        raise invalid("ignore", "a path begins with a slash")
    if asked.topic.startswith("-"):
        raise invalid("topic", "no topic's name begins so")
    return asked


def _words(asked: ReplayStart, app: str) -> list[str]:
    """The command that does it. A value is one word with its option, so that none is taken for an option."""
    words = [f"--group={asked.group}", f"--effects={asked.effects}", "--json", "--progress"]
    values: dict[str, object] = {"--from": asked.from_, "--to": asked.to, "--concurrency": asked.concurrency}
    if asked.query is not None:
        query = asked.query
        values |= {"--type": query.type, "--tenant": query.tenant, "--state": query.state}
        values |= {"--since": query.since, "--until": query.until, "--handler-version": query.handler_version}
    words += [f"{name}={_text(value)}" for name, value in values.items() if value is not None]
    words += ["--compare"] if asked.compare else []
    words += [f"--ignore={path}" for path in asked.ignore]
    return [*words, asked.topic, app]


def _text(value: object) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
