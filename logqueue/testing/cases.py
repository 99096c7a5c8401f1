"""Exported jobs in tests: run a handler on what happened in production.

    def test_the_invoice_that_went_wrong(logqueue_case):
        case = logqueue_case("cases/invoice-4711.jsonl")
        assert case.run(app)["total"] == 1190

`logqueue export JOB_ID -o FILE` writes such a file. The handler runs as in a replay: `ctx.replaying` is true, and
`ctx.effect` returns what it returned when the job ran live, or raises EffectDenied.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from logqueue.ids import JobId
from logqueue.jobs.case_file import CaseRecord, InvalidCase, read_lines
from logqueue.jobs.context import JobContext
from logqueue.jobs.effects import Effects, effect_key, replayed_effect
from logqueue.jobs.payload import encode_result

if TYPE_CHECKING:
    from logqueue.jobs.app import App
    from logqueue.jobs.sending import PreparedJob


class Case:
    """One exported job. `recorded` is what the live run came to: `.state`, `.result`, `.error`."""

    def __init__(self, record: CaseRecord) -> None:
        self.record = record
        self.id = record.id
        self.type = record.type
        self.tenant = record.tenant
        self.args = record.args
        self.recorded = record.recorded

    def run(self, app: App, *, effects: str = "recorded", args: Mapping[str, Any] | None = None) -> Any:
        """Run the app's handler on the job; returns its result as the JSON value that would be stored.

        `effects` is what `ctx.effect` does (deny, none, recorded), `args` replace single arguments. What the handler
        raises comes through. Not for use inside a running event loop: `await case.run_async(app)` is.
        """
        return asyncio.run(self.run_async(app, effects=effects, args=args))

    async def run_async(self, app: App, *, effects: str = "recorded", args: Mapping[str, Any] | None = None) -> Any:
        """The same inside an event loop."""
        record = self.record
        definition = app.find(record.type, queue=record.queue)
        if record.args is None and not args:
            raise InvalidCase(f"job {record.id}: its value could not be decoded when it was exported")
        arguments = definition.codec.decode_json(msgspec.json.encode({**(record.args or {}), **(args or {})}))
        found: Any = definition.invoke(self._context(app, definition.retry.attempts, Effects(effects)), arguments)
        result = await found if isawaitable(found) else found
        return None if result is None else msgspec.json.decode(encode_result(result))

    def _context(self, app: App, attempts: int, effects: Effects) -> JobContext:
        record, recorded = self.record, self.recorded
        return JobContext(
            job_id=JobId(record.id),
            type=record.type or "",
            tenant=record.tenant,
            queue=record.queue,
            group=app.group,
            attempt=recorded.attempt if recorded is not None else 1,
            max_attempts=attempts,
            replay=record.replay,
            replaying=True,
            created_ms=record.created_ms,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            headers=dict(record.headers),
            _services=_CaseServices(effects, recorded.details if recorded is not None else {}),
        )


class _CaseServices:
    """What a worker would do for the handler, without one: steps run, effects are answered from the record."""

    def __init__(self, effects: Effects, details: Mapping[str, Any]) -> None:
        self._effects = effects
        self._details = details
        self._begun: Counter[str] = Counter()
        self.cancelled = False

    def send(self, job: PreparedJob) -> None: ...

    def progress(self, done: float, total: float | None, message: str | None) -> None: ...

    def log(self, line: str) -> None: ...

    async def step(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        return await call()

    def step_from_thread(self, name: str, call: Callable[[], Any]) -> Any:
        return call()

    def begin_effect(self, name: str) -> str:
        number = self._begun[name]
        self._begun[name] += 1
        return effect_key(name, number)

    def record_effect(self, key: str, result: object) -> None: ...

    def replayed_effect(self, key: str) -> Any:
        return replayed_effect(self._effects, key, self._details)


def load_cases(file: str | Path) -> list[Case]:
    """The jobs of an exported file, in its order; InvalidCase if it holds none."""
    path = Path(file)
    try:
        with path.open("rb") as lines:
            cases = [Case(record) for record in read_lines(lines, name=str(path))]
    except OSError as error:
        raise InvalidCase(f"{path} cannot be read: {error.strerror}") from None
    if not cases:
        raise InvalidCase(f"{path} holds no job")
    return cases


def load_case(file: str | Path) -> Case:
    """The one job of a file; InvalidCase if there are several."""
    cases = load_cases(file)
    if len(cases) > 1:
        raise InvalidCase(f"{file} holds {len(cases)} jobs: use logqueue_cases")
    return cases[0]
