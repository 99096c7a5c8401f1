"""What a test expects of jobs, compared with those on the log; the difference in words. No IO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from logqueue_schemas.job_status import State

from logqueue.errors import LogqueueError

if TYPE_CHECKING:
    from logqueue.jobs.app import App
    from logqueue_consumers.lab.log_reader import LabJob

SHOWN_JOBS = 10
"""Jobs that a failed assertion shows."""
MISSING = object()
STATES = frozenset(state.value for state in State) - {State.UNKNOWN}


def matches(job: LabJob, *, type_: str | None, tenant: str | None, args: Mapping[str, Any]) -> bool:
    """Whether it is of this type and tenant, with at least these arguments (dictionaries again by their parts)."""
    if (type_ is not None and job.type != type_) or (tenant is not None and job.tenant != tenant):
        return False
    return not args or (job.args is not None and not differences(args, job.args))


def check_state(state: str | None) -> None:
    """LogqueueError for what is no state: a test that asks for it would find none, whatever happens."""
    if state is not None and state not in STATES:
        raise LogqueueError(f"there is no state {state!r}; there are {', '.join(sorted(STATES))}")


def check_type(type_: str | None, jobs: Sequence[LabJob], app: App) -> None:
    """LogqueueError for a type that neither the app nor a job on the log has."""
    if type_ is not None and type_ not in app.jobs and all(job.type != type_ for job in jobs):
        raise LogqueueError(f"App {app.name!r} has no job {type_!r}: {', '.join(sorted(app.jobs))}")


def differences(expected: Any, found: Any, path: str = "") -> list[str]:
    """Where `found` lacks what is expected: every key of a dictionary, everything else as a whole."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        lines: list[str] = []
        for name, value in expected.items():
            lines += differences(value, found.get(name, MISSING), f"{path}.{name}" if path else str(name))
        return lines
    if found is MISSING:
        return [f"{path}: expected {expected!r}, is not there"]
    try:
        plain = msgspec.to_builtins(expected)  # as it is stored: dates are text, sets are lists
    except TypeError:
        plain = expected  # no value at all, but something that compares, such as mock.ANY
    return [] if expected == found or plain == found else [f"{path}: expected {expected!r}, is {found!r}"]


def _jobs(count: int | None) -> str:
    return "jobs" if count is not None and count > 1 else "job"


def complaint(
    jobs: Sequence[LabJob],
    *,
    type_: str,
    tenant: str | None,
    args: Mapping[str, Any],
    count: int | None,
    found: int,
) -> str:
    """Why the number of matching jobs is wrong, with what is there instead."""
    wanted = "at least one" if count is None else "no" if count == 0 else str(count)
    lines = [f"expected {wanted} {_jobs(count)} {type_!r}{_where(tenant, args)}, found {found}"]
    same = [job for job in jobs if job.type == type_]
    others = sorted({str(job.type) for job in jobs if job.type != type_})
    if same:
        lines.append(f"jobs {type_!r} on the log:")
        lines += [f"  {describe(job)}{_difference(job, tenant, args)}" for job in same[:SHOWN_JOBS]]
        if len(same) > SHOWN_JOBS:
            lines.append(f"  and {len(same) - SHOWN_JOBS} more")
    elif others:
        lines.append(f"no job {type_!r} is on the log; there are: {', '.join(others)}")
    else:
        lines.append("no job is on the log")
    return "\n".join(lines)


def describe(job: LabJob) -> str:
    """One line: who, what, in which state."""
    given = ", ".join(f"{name}={value!r}" for name, value in (job.args or {}).items())
    parts = [f"{job.type}({given})", f"tenant={job.tenant}", job.state]
    if job.attempt > 1:
        parts.append(f"attempt {job.attempt}")
    if job.due_ms is not None:
        parts.append(f"due {datetime.fromtimestamp(job.due_ms / 1000, UTC).isoformat()}")
    if job.error is not None:
        parts.append(job.error)
    return " ".join([*parts, job.id])


def status_complaint(job: LabJob, expected: Mapping[str, Any]) -> str | None:
    """How the job's state differs from what is expected; None if it does not."""
    found = {name: getattr(job, name) for name in expected}
    lines: list[str] = []
    for name, value in expected.items():
        if name == "error":
            if value is None if found[name] is not None else value is not None:
                lines.append(f"error: expected {value!r}, is {found[name]!r}")
            elif value is not None and value not in found[name]:
                lines.append(f"error: expected one with {value!r}, is {found[name]!r}")
        else:
            lines += differences(value, found[name], name)
    if not lines:
        return None
    states = " -> ".join(f"{state.state}({state.attempt})" for state in job.history) or "nothing written yet"
    return "\n".join([f"job {describe(job)}:", *(f"  {line}" for line in lines), f"  its states: {states}"])


def _difference(job: LabJob, tenant: str | None, args: Mapping[str, Any]) -> str:
    lines = differences(args, job.args or {})
    if tenant is not None and job.tenant != tenant:
        lines.insert(0, f"tenant: expected {tenant!r}, is {job.tenant!r}")
    return "".join(f"\n    {line}" for line in lines)


def _where(tenant: str | None, args: Mapping[str, Any]) -> str:
    wanted = [f"tenant={tenant!r}"] if tenant is not None else []
    wanted += [f"{name}={value!r}" for name, value in args.items()]
    return f" with {', '.join(wanted)}" if wanted else ""
