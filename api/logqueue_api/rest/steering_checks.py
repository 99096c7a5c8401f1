"""Whether a steering command is about something that is there: a mistyped name would hold in vain, and silently."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Final

from logqueue_api.rest.problems import FieldFault, Problem
from logqueue_api.rest.services import Services

NEWS_SECONDS: Final = 1.0
"""Longest wait for a command that was given a moment ago, before it is said that there is none."""
LISTED: Final = 20
FORCE_TEXT: Final = "Also for a queue or type that no worker has published yet."


async def check_queue(queue: str | None, services: Services, *, force: bool) -> None:
    """Problem (404) for a queue that no worker has published, unless `force`."""
    if queue is not None and not force:
        await _check("queue", queue, lambda: {job.queue for job in services.view.catalogue.jobs}, services)


async def check_type(type_: str | None, services: Services, *, force: bool) -> None:
    """Problem (404) for a job type that no worker has published, unless `force`."""
    if type_ is not None and not force:
        await _check("type", type_, lambda: {job.type for job in services.view.catalogue.jobs}, services)


async def check_standing(key: str, what: str, services: Services) -> None:
    """Problem (404) where no command of this key is to be taken back; one given just now is waited for."""
    tail, prefix = services.control.tail, key[: key.index("/") + 1]
    if key in tail.state.standing:
        return
    heard = asyncio.Event()

    def listen(_: object) -> None:
        if key in tail.state.standing:
            heard.set()

    tail.listeners.append(listen)
    try:
        async with asyncio.timeout(NEWS_SECONDS):
            await heard.wait()
    except TimeoutError:
        standing = [rest for rest, _ in sorted(tail.state.under(prefix))]
        raise Problem(404, f"no {what} {key.removeprefix(prefix)!r} stands; {_listed(standing)}") from None
    finally:
        tail.listeners.remove(listen)


async def _check(field: str, name: str, published: Callable[[], set[str]], services: Services) -> None:
    if name in published():
        return
    await services.submission.catch_up()
    known = sorted(published())
    if name in known or not services.view.is_caught_up:
        return
    near = get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else _listed(known)
    detail = f"no worker has published a {field} {name!r}; {hint} (`force` takes one that is not deployed yet)"
    raise Problem(404, detail, faults=[FieldFault(field, "no worker has published it")])


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "there is none"
    return f"there are: {', '.join(names[:LISTED])}" + (", ..." if len(names) > LISTED else "")
