"""Requests that wait until a job has ended, and jobs that the view cannot have yet. Told of reports; reads no file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from logqueue_consumers.view.job import TERMINAL_STATES, Job, JobKey
from logqueue_consumers.view.reader import ViewUnavailable

# Jobs sent that no report has named yet; beyond that they are looked up like all others.
MAX_UNSEEN: Final = 10_000

Change = tuple[str, int, Sequence[str]]
"""Shadow group, state, ids: as in a report."""


class AwaitedEnds:
    """Who waits for which job. `find` looks jobs up, all at once; it raises ViewUnavailable."""

    def __init__(self, find: Callable[[Collection[JobKey]], Iterable[Job]]) -> None:
        self._find = find
        self._waiters: dict[JobKey, list[asyncio.Future[Job | None]]] = {}
        self._unseen: set[str] = set()

    def expect(self, id_: str) -> None:
        """A job with an id of our making is about to be sent: it is not in the view before a report names it."""
        if len(self._unseen) >= MAX_UNSEEN:
            self._unseen.clear()
        self._unseen.add(id_)

    def may_be_known(self, key: JobKey) -> bool:
        """Whether the view may have the job."""
        return bool(key.shadow) or key.id not in self._unseen

    async def wait(self, key: JobKey, *, timeout: float) -> Job | None:
        """The job once it has ended; None after `timeout` seconds, or where it has to be looked up to know."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Job | None] = loop.create_future()
        waiters = self._waiters.setdefault(key, [])
        waiters.append(waiter)
        timer = loop.call_later(timeout, _answer, (waiter,), None)
        try:
            return await waiter
        finally:
            timer.cancel()
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[key]

    def take(self, changes: Iterable[Change]) -> None:
        """Learn what a commit has changed."""
        ended: list[JobKey] = []
        for shadow, state, ids in changes:
            self._unseen.difference_update(ids)
            if state in TERMINAL_STATES:
                ended += among(self._waiters, shadow, ids)
        self._look_up(ended)

    def look_around(self) -> None:
        """Any job may have changed."""
        self._unseen.clear()
        self._look_up(list(self._waiters))

    def release(self) -> None:
        """Nobody is to wait any more."""
        for waiters in self._waiters.values():
            _answer(waiters, None)

    def _look_up(self, keys: Collection[JobKey]) -> None:
        if not keys:
            return
        try:
            found = self._find(keys)
        except ViewUnavailable:
            for key in keys:  # who waits looks it up, and tells why that cannot be
                _answer(self._waiters[key], None)
            return
        for job in found:
            if job.outcome.state in TERMINAL_STATES:
                _answer(self._waiters[job.key], job)


def among(table: Mapping[JobKey, object], shadow: str, ids: Sequence[str]) -> list[JobKey]:
    """The keys of a table that name one of these jobs."""
    if not table:
        return []
    if len(table) < len(ids):
        changed = frozenset(ids)
        return [key for key in table if key.shadow == shadow and key.id in changed]
    return [key for key in (JobKey(id_, shadow) for id_ in ids) if key in table]


def _answer(waiters: Iterable[asyncio.Future[Job | None]], job: Job | None) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(job)
