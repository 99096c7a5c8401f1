"""An App with isolated handlers: the processes of the pool import it from here."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from fractions import Fraction
from pathlib import Path

from logqueue import App, Retry
from logqueue.jobs.errors import Permanent
from logqueue.jobs.settings import Settings

app = App("isolated", settings=Settings())


class TooBad(Permanent):
    """An error of the App's own."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"too bad: {reason}")
        self.reason = reason


class Stubborn(Exception):
    """An error that pickle cannot bring back."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)
        self.lock = (step for step in (one, two))


ISOLATED = {"isolation": "process", "queue": "isolated"}


@app.job("add", **ISOLATED)
def add(*, a: int, b: int) -> dict[str, int]:
    return {"sum": a + b, "pid": os.getpid()}


@app.job("add-async", **ISOLATED)
async def add_async(*, a: int, b: int) -> dict[str, int]:
    await asyncio.sleep(0)
    return {"sum": a + b, "pid": os.getpid()}


@app.job("fail", **ISOLATED)
def fail(*, how: str) -> None:
    if how == "own":
        raise TooBad("own")
    if how == "stubborn":
        raise Stubborn("one", "two")
    if how == "exit":
        raise SystemExit(3)


@app.job("die", retry=Retry(attempts=9, first="10ms", crashes=2), **ISOLATED)
def die(*, how: str) -> None:
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGKILL)


@app.job("spin", timeout="400ms", retry=Retry(attempts=1), **ISOLATED)
def spin(ctx, *, file: str) -> None:  # type: ignore[no-untyped-def]
    """Use the processor until somebody raises in here."""
    Path(file).write_text(str(os.getpid()))
    try:
        while True:
            sum(range(1000))
    finally:
        Path(file).write_text(f"cleaned up {ctx.cancelled}")


@app.job("sleep", timeout="400ms", retry=Retry(attempts=1), **ISOLATED)
def sleep(*, file: str) -> None:
    """Wait in C, without a context that could tell that the time is up."""
    Path(file).write_text(str(os.getpid()))
    try:
        time.sleep(100)
    finally:
        Path(file).write_text("cleaned up")


@app.job("deaf", timeout="400ms", retry=Retry(attempts=1), **ISOLATED)
def deaf(*, file: str) -> None:
    """Never end, whatever is raised."""
    Path(file).write_text(str(os.getpid()))
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            continue


@app.job("polite", **ISOLATED)
def polite(ctx, *, file: str) -> str:  # type: ignore[no-untyped-def]
    """End well as soon as it is asked to."""
    Path(file).write_text(str(os.getpid()))
    while not ctx.cancelled:
        time.sleep(0.01)
    return "as you wish"


@app.job("told", **ISOLATED)
def told(ctx, *, n: int) -> list[object]:  # type: ignore[no-untyped-def]
    ctx.progress(n, 10, "half way")
    ctx.log("a line")
    return [ctx.step_sync("square", lambda: n * n), ctx.tenant, ctx.cancelled]


@app.job("told-async", **ISOLATED)
async def told_async(ctx, *, n: int) -> object:  # type: ignore[no-untyped-def]
    async def square() -> int:
        await asyncio.sleep(0)
        return n * n

    return await ctx.step("square", square)


@app.job("steps-beside", **ISOLATED)
async def steps_beside(ctx, *, n: int) -> object:  # type: ignore[no-untyped-def]
    """Two steps beside each other, which use the context, and one of them has a step of its own."""
    first_is_over = asyncio.Event()

    async def first() -> int:
        ctx.progress(n, 10, "in a step")
        first_is_over.set()
        return n

    async def second() -> list[object]:
        await first_is_over.wait()
        return [ctx.cancelled, await ctx.step("within", first)]

    return await asyncio.gather(ctx.step("second", second), ctx.step("first", first))


@app.job("leave-step", **ISOLATED)
async def leave_step(ctx, *, how: str) -> object:  # type: ignore[no-untyped-def]
    """End while a step runs, and tell what became of the step."""
    began, ended = asyncio.Event(), []

    async def endless() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # what a step does to clean up may take a while
            ended.append("step")

    running = asyncio.create_task(ctx.step("endless", endless))
    await began.wait()
    if how == "forget":
        return "left"
    if how == "raise":
        raise TooBad("in the middle of a step")
    running.cancel()
    await asyncio.wait((running,))
    return [*ended, "handler", os.getpid()]


@app.job("stopped-step", **ISOLATED)
async def stopped_step(ctx, *, file: str) -> None:  # type: ignore[no-untyped-def]
    """Wait in a step until it is cancelled."""

    async def endless() -> None:
        Path(file).write_text(str(os.getpid()))
        try:
            await asyncio.Event().wait()
        finally:
            Path(file).write_text("cleaned up")

    await ctx.step("endless", endless)


@app.job("exit-in-step", **ISOLATED)
def exit_in_step(ctx) -> None:  # type: ignore[no-untyped-def]
    """Raise what is no Exception in a step: it ends the job without an answer to the step."""

    def leave() -> None:
        raise SystemExit(4)

    ctx.step_sync("leave", leave)


@app.job("odd-words", **ISOLATED)
def odd_words(ctx, *, nan: bool) -> str:  # type: ignore[no-untyped-def]
    """Say what has no form in JSON."""
    ctx.progress(float("nan") if nan else Fraction(1, 2), None, "half \udcff")
    ctx.log("no file \udcff")
    return "said"


@app.job("wait", **ISOLATED)
def wait(*, file: str) -> str:
    """Wait the first time, end at once the second time."""
    path = Path(file)
    is_first = not path.exists()
    path.write_text(str(os.getpid()))
    while is_first:
        time.sleep(0.01)
    return "waited"
