"""What workers have published of their jobs: types, queues, schemas of arguments. Checks a job before it is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, NoReturn

import jsonschema_rs
import msgspec
import structlog

from logqueue_api.rest.problems import MAX_FIELD_ERRORS, FieldFault, Problem, invalid

MISSING: Final = "missing"
_LISTED_TYPES: Final = 20  # known types that an error names
_log = structlog.get_logger("logqueue.api")


class PublishedJob(msgspec.Struct, frozen=True):
    """A job definition as it stands in `jobs.control`."""

    app: str
    group: str
    type: str
    queue: str
    args_schema: dict[str, Any]
    is_default: bool = False
    version: int | str = 1
    retry: Any = None
    timeout: Any = None
    order: str | None = None
    priorities: dict[str, float] = {}
    default_priority: str = "normal"
    spread: int = 1
    queue_limits: list[dict[str, Any]] = []
    limits: list[dict[str, Any]] = []


class Route(NamedTuple):
    """Where a job goes, and what decides about it: the queue's priority classes, over how many keys tenants spread."""

    type: str
    queue: str
    priorities: Mapping[str, float]
    default_priority: str
    spread: int


class Catalogue:
    """All published definitions. Built anew when one changes; routes and validators are made when first used."""

    def __init__(self, values: Mapping[str, bytes]) -> None:
        self.jobs: list[PublishedJob] = []
        for key in sorted(values):
            try:
                self.jobs.append(msgspec.json.decode(values[key], type=PublishedJob))
            except (ValueError, RecursionError) as error:
                _log.warning("a published job definition cannot be read", key=key, reason=str(error))
        self.default_types: dict[str, str] = {}
        for job in self.jobs:
            if job.is_default:
                self.default_types.setdefault(job.queue, job.type)
        self._validators: dict[tuple[str, str], list[Any]] = {}
        self._routes: dict[tuple[str | None, str | None], Route] = {}  # those that exist: bounded by the definitions

    def knows(self, *, type_: str | None, queue: str | None) -> bool:
        """Whether a worker has published what this job needs."""
        if (type_, queue) in self._routes:
            return True
        if type_ is None:
            return queue is None or queue in self.default_types
        return any(job.type == type_ and queue in (None, job.queue) for job in self.jobs)

    def resolve(self, *, type_: str | None, queue: str | None, where: str = "") -> tuple[str, str]:
        """Type and queue of a job of which at least one is given; a Problem names the field that does not fit."""
        if type_ is None:
            if queue is None:
                raise invalid(where + "type", "missing; name the job's type (or a queue that has a default type)")
            if queue not in self.default_types:
                raise invalid(where + "type", f"missing, and queue {queue!r} has no default type")
            return self.default_types[queue], queue
        queues = sorted({job.queue for job in self.jobs if job.type == type_})
        if not queues:
            raise self._unknown(type_, where)
        if queue is None:
            if len(queues) > 1:
                raise invalid(
                    where + "queue", f"type {type_!r} runs from several queues; name one of {', '.join(queues)}"
                )
            return type_, queues[0]
        if queue not in queues:
            raise invalid(where + "queue", f"type {type_!r} runs from {', '.join(queues)}, not from {queue!r}")
        return type_, queue

    def route(self, *, type_: str | None, queue: str | None, where: str = "") -> Route:
        """Where a job goes of which type or queue is given; a Problem as `resolve` raises it."""
        found = self._routes.get((type_, queue))
        if found is None:
            resolved = self.resolve(type_=type_, queue=queue, where=where)
            job = next(job for job in self.jobs if (job.type, job.queue) == resolved)
            found = Route(*resolved, job.priorities, job.default_priority, job.spread)
            self._routes[type_, queue] = found
        return found

    def group_of(self, type_: str | None, *, queue: str) -> str | None:
        """The one group that has published this type (or any of the queue, if None); None if several or none have."""
        groups = {job.group for job in self.jobs if job.queue == queue and type_ in (None, job.type)}
        return groups.pop() if len(groups) == 1 else None

    def check(self, arguments: Mapping[str, Any], *, type_: str, queue: str, where: str = "") -> None:
        """A Problem that names each argument which the handler's signature does not take."""
        for validator in self._validators_of(type_, queue):
            if validator.is_valid(arguments):
                continue
            faults = _faults(validator, arguments, where)
            detail = "; ".join(f"{fault.field}: {fault.detail}" for fault in faults[:5])
            raise Problem(
                400, f"arguments of {type_!r}: {detail}", kind="urn:logqueue:invalid-arguments", faults=faults
            )

    def check_selector(self, arguments: Mapping[str, Any], *, type_: str, queue: str | None) -> None:
        """A Problem where no job of the type can have these arguments (among others): a selector that selects none."""
        told: Sequence[FieldFault] = ()
        for at in {job.queue for job in self.jobs if job.type == type_ and queue in (None, job.queue)}:
            for validator in self._validators_of(type_, at):
                told = [fault for fault in _faults(validator, arguments, "") if fault.detail != MISSING]
                if not told:
                    return
        if told:
            detail = "; ".join(f"{fault.field}: {fault.detail}" for fault in told[:5])
            raise Problem(
                400,
                f"no job of type {type_!r} has such arguments: {detail}",
                kind="urn:logqueue:invalid-arguments",
                faults=told,
            )

    def _validators_of(self, type_: str, queue: str) -> list[Any]:
        found = self._validators.get((type_, queue))
        if found is None:
            found = [
                validator
                for job in self.jobs
                if (job.type, job.queue) == (type_, queue) and (validator := _compile(job)) is not None
            ]
            self._validators[type_, queue] = found
        return found

    def _unknown(self, type_: str, where: str) -> Problem:
        known = sorted({job.type for job in self.jobs})
        listed = ", ".join(known[:_LISTED_TYPES]) + (", ..." if len(known) > _LISTED_TYPES else "")
        said = f"known are {listed}" if known else "no worker has published any yet; is one running?"
        return invalid(where + "type", f"unknown job type {type_!r}; {said}", kind="urn:logqueue:unknown-job-type")


def _compile(job: PublishedJob) -> Any:
    try:
        return jsonschema_rs.validator_for(
            job.args_schema, validate_formats=True, formats={"date-time": _is_moment}, retriever=_refuse
        )
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        # The worker checks the arguments in any case; without a schema it is the only one.
        _log.warning("a published argument schema cannot be used", type=job.type, app=job.app, reason=str(error))
        return None


def _refuse(reference: str) -> NoReturn:
    """A published schema is written by whoever may produce to its topic: nothing that it names is fetched or opened."""
    raise ValueError(f"{reference} is outside the schema; what it refers to has to be inside it")


def _is_moment(text: str) -> bool:
    """Times as the worker reads them: with or without a zone, as the handler's annotation says."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _faults(validator: Any, arguments: Mapping[str, Any], where: str) -> Sequence[FieldFault]:
    faults: list[FieldFault] = []
    for error in validator.iter_errors(arguments):
        path = [where + "args", *map(str, error.instance_path)]
        kind = error.kind
        if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
            faults.append(FieldFault(".".join([*path, str(kind.property)]), MISSING))
        elif isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
            faults += [FieldFault(".".join([*path, str(name)]), "unknown argument") for name in kind.unexpected]
        else:
            faults.append(FieldFault(".".join(path), error.message[:500]))
        if len(faults) >= MAX_FIELD_ERRORS:
            break
    return faults
