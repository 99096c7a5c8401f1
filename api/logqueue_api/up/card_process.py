"""Asks a process of its own what an app is, so that `up` itself imports no user code."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress

from logqueue_api.cli.exits import CommandError, ExitCode
from logqueue_api.up.app_card import AppCard
from logqueue_api.up.parent_death import die_with_parent
from logqueue_api.up.plan import Plan
from logqueue_api.up.signals import Signals

CARD_SECONDS = 60.0


async def read_card(plan: Plan, signals: Signals) -> AppCard | None:
    """Import the app once, in a process of its own: a typo is told before anything is started.

    None where there is no app, or where a signal came first.
    """
    if plan.app is None:
        return None
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "logqueue_api.up.app_card", plan.app),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(plan.environment),
        start_new_session=True,
        preexec_fn=die_with_parent(os.getpid()),
    )
    reading = asyncio.create_task(process.communicate())
    stop = asyncio.create_task(signals.stop.wait())
    await asyncio.wait({reading, stop}, timeout=CARD_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not reading.done():
        with suppress(ProcessLookupError):  # it has just ended by itself
            process.kill()
        await reading
        if signals.stop.is_set():
            return None
        message = f"importing {plan.app} did not end within {CARD_SECONDS:g} s"
        raise CommandError(message, code=ExitCode.APP, hint="a module that holds an App must only define things")
    return _parse(*reading.result(), app=plan.app, code=process.returncode or 0)


def _parse(output: bytes, errors: bytes, *, app: str, code: int) -> AppCard:
    try:
        document = json.loads(output.splitlines()[-1])
        if "card" in document:
            return AppCard.from_json(document["card"])
        error = document["error"]
        raise CommandError(error["message"], code=ExitCode.APP, hint=error["hint"])
    except (IndexError, ValueError, KeyError):
        tail = errors.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise CommandError(
            f"importing {app} ended its process (exit code {code})", code=ExitCode.APP, hint="\n".join(tail)
        ) from None
