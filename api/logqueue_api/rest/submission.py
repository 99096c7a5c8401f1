"""From a request's body to jobs on the log: all of it is checked before the first record is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final

import orjson
from pydantic import ValidationError

from logqueue.clock import Clock
from logqueue.ids import TopicPartition
from logqueue.jobs.client import JobClient
from logqueue.jobs.durations import InvalidDuration, parse_duration
from logqueue.jobs.errors import InvalidArguments, JobTooLarge
from logqueue.jobs.handle import JobHandle
from logqueue.jobs.sending import PreparedJob, check_class, prepare_job
from logqueue.jobs.times import MAX_MS, to_ms
from logqueue_api.rest.known_keys import KnownKeys, ReadValue
from logqueue_api.rest.models import BatchRequest, JobRequest
from logqueue_api.rest.problems import FieldFault, Problem, faults_of, invalid, unavailable
from logqueue_api.rest.view_access import ViewAccess
from logqueue_api.rest.wire import position_text, time_text

SOURCE: Final = "logqueue-api"  # ce_source of jobs that came over HTTP


class Submission:
    """Checks jobs against what workers have published, and sends them.

    The view has the definitions; where it lacks one, `read_definitions` lets it catch up with the log first, so that
    what a worker published before the request counts. `on_new_topic` is told when a job goes to a topic that none of
    the jobs before it went to. `read_value` reads the value of one record.
    """

    def __init__(
        self,
        client: JobClient,
        *,
        view: ViewAccess,
        read_definitions: Callable[[], Awaitable[None]],
        on_new_topic: Callable[[], None],
        read_value: ReadValue,
        clock: Clock,
    ) -> None:
        self._client = client
        self._view = view
        self._read_definitions = read_definitions
        self._on_new_topic = on_new_topic
        self._clock = clock
        self._topics: set[str] = set()
        self._keys = KnownKeys(find=view.job, read_value=read_value, clock=clock)

    async def submit(self, document: Any, *, key: str | None = None) -> dict[str, Any]:
        """Send the one job of a POST body; its receipt. `key` is the Idempotency-Key header."""
        request = _read(JobRequest, document)
        if key is not None:
            if request.idempotency_key not in (None, key):
                raise invalid("idempotency_key", "differs from the Idempotency-Key header")
            request.idempotency_key = key
        await self._know([request])
        job = self._prepare(request, where="")
        self._client.check_size(job)
        if not job.is_keyed:
            if request.id is None:
                self._view.expect(job.id)
            return await self._send(job)
        async with self._keys.alone(job):
            if (existing := await self._keys.existing(job)) is not None:
                return existing
            receipt = await self._send(job)
            self._keys.remember(job, receipt)
            return receipt

    async def _send(self, job: PreparedJob) -> dict[str, Any]:
        handle = await self._client.send(job)
        self._note(handle.topic)
        return _receipt(handle)

    async def submit_batch(self, document: Any, *, max_jobs: int) -> dict[str, Any]:
        """Send the jobs of a batch's body; their receipts in order. A fault in any of them sends none."""
        if isinstance(document, list):
            document = {"jobs": document}
        jobs = document.get("jobs") if isinstance(document, dict) else None
        if isinstance(jobs, list) and len(jobs) > max_jobs:
            raise Problem(
                413, f"{len(jobs)} jobs; at most {max_jobs} in one batch", faults=[FieldFault("jobs", "too many")]
            )
        request = _read(BatchRequest, document)
        await self._know(request.jobs)
        prepared = [self._prepare(job, where=f"jobs.{number}.") for number, job in enumerate(request.jobs)]
        _check_unique(prepared)
        for number, job in enumerate(prepared):
            try:
                self._client.check_size(job)
            except JobTooLarge as error:
                fault = FieldFault(f"jobs.{number}", "too large")
                raise Problem(413, f"jobs.{number}: {error}", faults=[fault]) from None
        known = {
            job.id: receipt
            for number, job in enumerate(prepared)
            if job.is_keyed and (receipt := await self._keys.existing(job, where=f"jobs.{number}.")) is not None
        }
        new = [job for job in prepared if job.id not in known]
        handles = await self._client.send_many(new)
        for topic in {handle.topic for handle in handles}:
            self._note(topic)
        receipts = known | {handle.id: _receipt(handle) for handle in handles}
        for job in new:
            if job.is_keyed:
                self._keys.remember(job, receipts[job.id])
        return {"items": [receipts[job.id] for job in prepared], "min_position": _last_positions(handles)}

    async def catch_up(self) -> None:
        """Know what workers have published so far."""
        await self._read_definitions()

    async def _know(self, requests: Sequence[JobRequest]) -> None:
        """Catch up with the log's definitions if any of these jobs is not among those known."""
        if not all(self._view.catalogue.knows(type_=request.type, queue=request.queue) for request in requests):
            await self.catch_up()

    def _prepare(self, request: JobRequest, *, where: str) -> PreparedJob:
        catalogue = self._view.catalogue
        try:
            route = catalogue.route(type_=request.type, queue=request.queue, where=where)
        except Problem as problem:
            if self._view.is_caught_up:
                raise
            raise unavailable(f"the view is not complete yet, so this may not be so: {problem.detail}") from None
        catalogue.check(request.args, type_=route.type, queue=route.queue, where=where)
        now_ms = self._clock.time_ms()
        try:
            return prepare_job(
                type=route.type,
                queue=route.queue,
                value=_encode(request.args, where),
                source=SOURCE,
                now_ms=now_ms,
                tenant=request.tenant,
                id=request.id,
                not_before_ms=_instant(now_ms, request.delay, request.run_at, (where + "delay", where + "run_at")),
                expires_ms=_instant(
                    now_ms, request.expires_in, request.expires_at, (where + "expires_in", where + "expires_at")
                ),
                priority=check_class(
                    request.priority, route.priorities, default=route.default_priority, queue=route.queue
                ),
                spread=route.spread,
                idempotency_key=request.idempotency_key,
            )
        except InvalidArguments as error:
            raise invalid(where + (error.field or "job"), str(error)) from None

    def _note(self, topic: str) -> None:
        if topic not in self._topics:
            self._topics.add(topic)
            self._on_new_topic()


def _read(model: type[Any], document: Any) -> Any:
    if not isinstance(document, dict):
        raise Problem(400, "the body is not a JSON object", faults=[FieldFault("body", "not a JSON object")])
    try:
        return model.model_validate(document)
    except ValidationError as error:
        faults = faults_of(error)
        raise Problem(400, "; ".join(f"{f.field}: {f.detail}" for f in faults[:5]), faults=faults) from None


def _encode(arguments: dict[str, Any], where: str) -> bytes:
    try:
        return orjson.dumps(arguments)
    except (TypeError, ValueError) as error:
        raise invalid(where + "args", f"cannot be stored as JSON: {error}") from None


def _instant(now_ms: int, duration: float | str | None, moment: datetime | None, fields: tuple[str, str]) -> int | None:
    """Milliseconds since the epoch of "in this long" or "at this time"; None if neither is asked for."""
    relative, absolute = fields
    if duration is not None and moment is not None:
        raise invalid(absolute, f"excludes {relative}; give one of the two")
    if moment is not None:
        return min(max(to_ms(moment), 0), MAX_MS)
    if duration is None:
        return None
    try:
        return min(now_ms + round(parse_duration(duration) * 1000), MAX_MS)
    except InvalidDuration as error:
        raise invalid(relative, str(error)) from None


def _check_unique(jobs: Sequence[PreparedJob]) -> None:
    seen: dict[str, int] = {}
    for number, job in enumerate(jobs):
        if (first := seen.setdefault(job.id, number)) != number:
            raise invalid(f"jobs.{number}.id", f"the same id as jobs.{first}")


def _receipt(handle: JobHandle) -> dict[str, Any]:
    return {
        "id": handle.id,
        "type": handle.type,
        "queue": handle.queue,
        "tenant": handle.tenant,
        "topic": handle.topic,
        "partition": handle.partition,
        "offset": handle.offset,
        "position": position_text(handle.topic, handle.partition, handle.offset),
        "created_at": time_text(handle.created_ms * 1000),
    }


def _last_positions(handles: Sequence[JobHandle]) -> str:
    last: dict[TopicPartition, int] = {}
    for handle in handles:
        at = TopicPartition(handle.topic, handle.partition)
        last[at] = max(last.get(at, 0), handle.offset)
    return ",".join(position_text(*at, offset) for at, offset in sorted(last.items()))
