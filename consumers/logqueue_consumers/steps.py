"""Runs a coroutine inside the current task but in a context of its own. Knows no jobs.

One long-lived task runs many jobs one after the other: cheaper than a task per job, and `asyncio.current_task()`,
`asyncio.timeout()` and cancellation mean what they should. What a job sets in context variables must not reach the
next one, so each step of its coroutine runs in the job's own context.
"""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any


@types.coroutine
def in_context(context: Context, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Await a coroutine, each of its steps in `context`; returns its result, raises what it raises."""
    run = context.run
    send = coroutine.send
    try:
        waits_for = run(send, None)
        while True:
            try:
                value = yield waits_for
            except GeneratorExit:
                run(coroutine.close)
                raise
            except BaseException as error:
                waits_for = run(coroutine.throw, error)
            else:
                waits_for = run(send, value)
    except StopIteration as stop:
        return stop.value
