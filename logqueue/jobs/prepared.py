"""Whether what stands where a job or a prepared job belongs is one, and if not, what to write. Knows no client."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Iterator
from typing import Any

from logqueue.jobs.definition import JobDefinition
from logqueue.jobs.errors import InvalidDefinition, NotPrepared
from logqueue.jobs.sending import PreparedJob, Sending


def check_prepared(job: object, where: str) -> PreparedJob:
    """A prepared job itself; NotPrepared says what `where` (`ctx.send`, `chain`) should be given instead."""
    if isinstance(job, PreparedJob):
        return job
    raise NotPrepared(f"{where} takes a prepared job, {_advice(job)}")


def prepared_jobs(jobs: Iterable[PreparedJob], where: str) -> Iterator[PreparedJob]:
    """The jobs of an iterable, each checked when it comes."""
    if isinstance(jobs, PreparedJob | JobDefinition | Sending):
        raise NotPrepared(f"{where} takes a list of prepared jobs: write [job.prepare(...), ...]")
    for job in jobs:
        yield job if isinstance(job, PreparedJob) else check_prepared(job, where)


def check_definition(job: object, where: str) -> JobDefinition[..., Any]:
    """A job's definition itself; InvalidDefinition says what `where` (`Schedule 'nightly'`) should be given instead."""
    if isinstance(job, JobDefinition):
        return job
    kind = type(job).__name__
    if isinstance(job, Sending):
        kind = f"{job.definition.type!r} with options (`with_`)"
    elif isinstance(job, PreparedJob):
        kind = f"a prepared {job.type!r}"
    raise InvalidDefinition(
        f"{where}: job= takes a function under @app.job, not {kind}; tenant= and arguments= go beside it"
    )


def _advice(job: object) -> str:
    if isinstance(job, JobDefinition):
        return f"not the definition of {job.type!r}: write {_call(job)}"
    if isinstance(job, Sending):
        return f"not the options of one: write {_call(job.definition, '.with_(...)')}"
    if isinstance(job, Coroutine):
        job.close()  # nobody will await it, and Python need not warn of that as well
        return "and sends it itself: write .prepare(...) in place of .send(...)"
    kind = type(job).__name__
    return f"not {'an' if kind[0] in 'AEIOU' else 'a'} {kind}: `prepare` of a job's definition makes one"


def _call(definition: JobDefinition[..., object], options: str = "") -> str:
    name = getattr(definition.handler, "__name__", "job")
    return f"{name}{options}.prepare({', '.join(f'{argument}=...' for argument in definition.codec.names)})"
