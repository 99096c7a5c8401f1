"""/v1/jobs/{id}:cancel and its kin, the same for many jobs by filter, and the operations that those are."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from logqueue_consumers.control.decisions import Answer, Verb, allowed, decide, refusal
from logqueue_consumers.control.operator import NoGroup, RecordGone
from logqueue_consumers.view.job import STATE_NAMES, STATES_BY_NAME, Job, JobKey
from logqueue_consumers.view.place import JobFilter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from logqueue.jobs.control import MAX_JOB_COMMANDS, MAX_REASON_CHARS
from logqueue.jobs.times import to_ms
from logqueue_api.rest.actor import actor_of
from logqueue_api.rest.answers import answer_operation, json_answer, read_request
from logqueue_api.rest.audit import read_audit
from logqueue_api.rest.models import TypeName
from logqueue_api.rest.openapi import answers, body_of
from logqueue_api.rest.operations import Operation
from logqueue_api.rest.problems import Problem, invalid, not_found
from logqueue_api.rest.services import Services, ServicesOf

router = APIRouter(tags=["control"])

PAGE: Final = 500
QUICK_SECONDS: Final = 2.0
"""A bulk change that ends within this answers with its end, else with where to look."""

AS_TYPE_TEXT: Final = "retry: run as this job type; it takes parked jobs too, whose type is missing or unknown."


class CommandRequest(BaseModel):
    """What goes with a command about one job."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(None, max_length=MAX_REASON_CHARS)
    group: str | None = Field(None, max_length=100, description="Who runs it, where no group has run it yet.")
    as_type: TypeName | None = Field(None, description=AS_TYPE_TEXT)


class BulkRequest(BaseModel):
    """Which jobs are meant. At least one field has to narrow them down."""

    model_config = ConfigDict(extra="forbid")

    state: list[str] = Field(default_factory=list, description="Default: every state that the verb takes.")
    type: str | None = Field(None, max_length=255)
    tenant: str | None = Field(None, max_length=255)
    queue: str | None = Field(None, max_length=100)
    since: AwareDatetime | None = Field(None, description="Created at or after this time.")
    until: AwareDatetime | None = Field(None, description="Created before this time.")
    limit: int = Field(MAX_JOB_COMMANDS, ge=1, le=MAX_JOB_COMMANDS, description="At most this many, the newest.")
    reason: str | None = Field(None, max_length=MAX_REASON_CHARS)
    as_type: TypeName | None = Field(None, description=AS_TYPE_TEXT)
    dry_run: bool = Field(True, description="Only count. Has to be switched off to change anything.")


class CommandReceipt(BaseModel):
    """A command that the log has. The worker that has the job obeys it."""

    id: str
    command: str
    state: str = Field(description="The job's state when it was asked for.")
    by: str
    accepted: bool = Field(description="False: nothing was to be done.")


class OperationDocument(BaseModel):
    """A bulk change and how far it has come."""

    id: str
    operation: str
    state: str = Field(description="running, done, stopped (by a limit), failed")
    by: str
    dry_run: bool
    counts: dict[str, int]
    own: list[str] = Field(description="Ids under which the first conflicts of a replay run, as jobs of their own.")
    detail: str | None
    started_at: str
    finished_at: str | None


class AuditEntry(BaseModel):
    """A command. `subject` is the job id, queue, ... that it is about."""

    event: str | None
    subject: str | None
    by: str | None
    at: str | None
    value: dict[str, Any]
    offset: int


class AuditList(BaseModel):
    """Operator commands."""

    items: list[AuditEntry]


async def _command(verb: Verb, job_id: str, request: Request, services: Services) -> Response:
    asked = await read_request(CommandRequest, request, services)
    by = actor_of(request)
    job = services.view.job(JobKey(job_id))
    if job is None:
        raise not_found(f"there is no job {job_id!r}")
    state = job.outcome.state
    as_type = _as_type(verb, asked.as_type, job.identity.queue, services)
    answer = decide(verb, state, as_type=as_type is not None)
    if answer is Answer.FORBIDDEN:
        raise Problem(409, refusal(verb, job_id, state), kind="urn:logqueue:wrong-state")
    if answer is Answer.DO:
        group = asked.group or services.view.catalogue.group_of(job.type, queue=job.identity.queue)
        try:
            await services.operator.apply(
                verb, [job], by=by, reason=asked.reason, group=group, as_type=as_type, is_strict=True
            )
        except (RecordGone, NoGroup) as error:
            raise Problem(409, str(error)) from None
    document = {
        "id": job_id,
        "command": verb.value,
        "state": STATE_NAMES[state],
        "by": by,
        "accepted": answer is Answer.DO,
    }
    return json_answer(document, status=202)


async def _bulk(verb: Verb, request: Request, services: Services) -> Response:
    asked = await read_request(BulkRequest, request, services)
    if asked.as_type is not None and asked.queue is None:
        raise invalid("queue", "name the queue whose jobs are to run as another type")
    _as_type(verb, asked.as_type, asked.queue, services)
    where = _filter_of(verb, asked, now_ms=services.clock.time_ms())
    by = actor_of(request)

    async def work(operation: Operation) -> None:
        if not asked.dry_run:
            facts: dict[str, Any] = {
                "filter": asked.model_dump(mode="json", exclude_none=True),
                "operation": operation.id,
            }
            await services.operator.writer.note(f"jobs.{verb}", by=by, at_ms=services.clock.time_ms(), facts=facts)
        await _apply_to_all(verb, where, asked, operation, services)

    return await answer_operation(services, f"jobs:{verb}", work, by=by, dry_run=asked.dry_run, seconds=QUICK_SECONDS)


async def _apply_to_all(
    verb: Verb, where: JobFilter, asked: BulkRequest, operation: Operation, services: Services
) -> None:
    """Page after page, newest first."""
    after = None
    default_types = services.view.catalogue.default_types
    while True:
        room = asked.limit - operation.counts.get("matched", 0)
        if room <= 0:
            operation.stop(f"the limit of {asked.limit} is reached; ask again for more")
            return
        size, at = min(PAGE, room), after
        page = await services.view.query(
            lambda reader, size=size, at=at: reader.jobs(where, limit=size, after=at, default_types=default_types)  # type: ignore[misc]
        )
        operation.add("matched", len(page.jobs))
        if not asked.dry_run:
            await _apply_to_page(verb, page.jobs, asked, operation, services)
        after = page.after
        if after is None:
            return


async def _apply_to_page(verb: Verb, jobs: Any, asked: BulkRequest, operation: Operation, services: Services) -> None:
    by_group: dict[str | None, list[Job]] = {}
    for job in jobs:
        group = services.view.catalogue.group_of(job.type, queue=job.identity.queue)
        by_group.setdefault(group, []).append(job)
    for group, mine in by_group.items():
        done = await services.operator.apply(
            verb, mine, by=operation.by, reason=asked.reason, group=group, as_type=asked.as_type
        )
        operation.add("done", done)
        if done < len(mine):
            operation.add("impossible", len(mine) - done)


def _filter_of(verb: Verb, asked: BulkRequest, *, now_ms: int) -> JobFilter:
    unknown = [name for name in asked.state if name not in STATES_BY_NAME]
    if unknown:
        raise invalid("state", f"unknown state {unknown[0][:50]!r}; known are {', '.join(STATES_BY_NAME)}")
    taken = allowed(verb, as_type=asked.as_type is not None)
    states = {STATES_BY_NAME[name] for name in asked.state} or taken
    wrong = sorted(state.name.lower() for state in states - taken)
    if wrong:
        raise invalid("state", f"{verb} takes no jobs that are {', '.join(wrong)}")
    if not (asked.state or asked.type or asked.tenant or asked.queue or asked.since or asked.until):
        raise invalid("body", "which jobs? give at least one of state, type, tenant, queue, since, until")
    return JobFilter(
        states=tuple(sorted(states)),
        type=asked.type,
        tenant=asked.tenant,
        queue=asked.queue,
        since_ms=None if asked.since is None else to_ms(asked.since),
        # Jobs that come while it runs are not meant.
        until_ms=now_ms + 1 if asked.until is None else to_ms(asked.until),
    )


def _as_type(verb: Verb, as_type: str | None, queue: str | None, services: Services) -> str | None:
    """The type that jobs are retried as; 400 where no worker runs it from their queue."""
    if as_type is None:
        return None
    if verb is not Verb.RETRY:
        raise invalid("as_type", "goes with retry")
    return services.view.catalogue.resolve(type_=as_type, queue=queue)[0]


def _add_verb(verb: Verb, *, told: str) -> None:
    async def one(job_id: str, request: Request, services: ServicesOf) -> Response:
        return await _command(verb, job_id, request, services)

    async def many(request: Request, services: ServicesOf) -> Response:
        return await _bulk(verb, request, services)

    one.__doc__ = many.__doc__ = f"{told} Who asked is `X-Logqueue-Actor`, else the client's address."
    if verb is not Verb.RUN_NOW:
        router.add_api_route(
            f"/v1/jobs:{verb}",
            many,
            methods=["POST"],
            status_code=202,
            responses=answers(OperationDocument, 400, 413, 415, 503, status=202),
            openapi_extra=body_of(BulkRequest),
            summary=f"{verb.value.capitalize()} many jobs",
            operation_id=f"{verb.value}_jobs",
        )
    router.add_api_route(
        f"/v1/jobs/{{job_id:path}}:{verb}",
        one,
        methods=["POST"],
        status_code=202,
        responses=answers(CommandReceipt, 400, 404, 409, 413, 415, 503, status=202),
        openapi_extra=body_of(CommandRequest),
        summary=f"{verb.value.capitalize()} a job",
        operation_id=f"{verb.value.replace('-', '_')}_job",
    )


_add_verb(Verb.CANCEL, told="A job that waits (or is parked) ends as cancelled, one that runs is told to stop.")
_add_verb(Verb.RETRY, told="A job that is dead, cancelled or expired runs again, as its next replay.")
_add_verb(Verb.RUN_NOW, told="A job that waits for its time begins at once.")
_add_verb(Verb.DISCARD, told="The dead letters of a dead job are closed; a parked job ends as cancelled.")


@router.get(
    "/v1/operations/{operation_id}",
    responses=answers(OperationDocument, 404),
    summary="How far a bulk change has come",
)
async def get_operation(operation_id: str, services: ServicesOf) -> Response:
    """Known to the API process that it was asked of, until a few hundred others have followed."""
    operation = services.operations.find(operation_id)
    if operation is None:
        raise not_found(f"this API process knows no operation {operation_id[:100]!r}")
    return json_answer(operation.document())


@router.get("/v1/audit", responses=answers(AuditList, 400, 503), summary="Operator commands, newest first")
async def list_audit(
    services: ServicesOf,
    limit: Annotated[int, Query(ge=1, le=1_000, description="How many.")] = 100,
    subject: Annotated[str | None, Query(max_length=512, description="Only about this job, queue, ...")] = None,
) -> Response:
    """Who wanted what, and when: every command is kept."""
    topic = services.settings.topics.audit
    return json_answer({"items": await read_audit(services.cluster, topic, limit=limit, subject=subject)})
