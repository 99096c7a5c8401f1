"""The view as the API uses it: lookups now, lists off the loop, and waiting for what the fold reports."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import structlog
from logqueue_consumers.view.job import TERMINAL_STATES, Job, JobKey
from logqueue_consumers.view.reader import ViewReader, ViewUnavailable
from logqueue_consumers.view.reports import Report

from logqueue.ids import TopicPartition
from logqueue_api.rest.awaited_ends import AwaitedEnds, among
from logqueue_api.rest.catalogue import Catalogue
from logqueue_api.rest.limits import ApiLimits
from logqueue_api.rest.problems import unavailable

T = TypeVar("T")
K = TypeVar("K")

# Two readers: one long list does not hold up the next, and more would only compete for the processor.
_QUERY_THREADS: Final = 2
# Reports that a listener may have unread; then it loses the oldest and learns of the loss by `is_truncated`.
_LISTENER_REPORTS: Final = 256

_log = structlog.get_logger("logqueue.api")


class ViewAccess:
    """Answers from the view file, kept up to date by the fold's reports. Everything but queries runs on the loop."""

    def __init__(self, path: Path, limits: ApiLimits) -> None:
        self._path = path
        self._limits = limits
        self._generation = ""
        self._reader: ViewReader | None = None
        self._readers = threading.local()
        self._thread_readers: list[ViewReader] = []
        self._is_closed = False
        self._threads = ThreadPoolExecutor(_QUERY_THREADS, thread_name_prefix="view-query")
        self._queries = 0
        self._waiting = 0
        self._positions: dict[TopicPartition, int] = {}
        self._for_job: dict[JobKey, set[asyncio.Event]] = {}
        self._ends = AwaitedEnds(lambda keys: self._guard(lambda: self._own_reader().jobs_of(keys)))
        self._is_stopping = False
        self._for_position: dict[TopicPartition, set[asyncio.Event]] = {}
        self._listeners: set[asyncio.Queue[Report]] = set()
        self.catalogue = Catalogue({})
        self.latest: Report | None = None
        if path.exists():
            self._begin_generation("")  # what an earlier fold left is better than nothing

    @property
    def is_caught_up(self) -> bool:
        """Whether the view has been at the end of the log since the fold started."""
        return self.latest is not None and self.latest.is_caught_up

    def close(self) -> None:
        """Close the file in every thread; later reports are not heeded."""
        self._is_closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        for reader in self._thread_readers:
            reader.close()
        self._close_reader()

    def take_report(self, report: Report) -> None:
        """Learn of a commit: wake whoever waits for it."""
        if self._is_closed:
            return
        if report.generation != self._generation:
            self._begin_generation(report.generation)
        self.latest = report
        for topic, partition, offset in report.positions:
            at = TopicPartition(topic, partition)
            self._positions[at] = offset
            _wake(self._for_position.get(at, ()))
        if report.has_new_definitions:
            self._reload_definitions()
        # A fold that begins tells the definitions, and what its forerunner told last may be lost.
        if report.is_truncated or report.has_new_definitions:
            self._wake_watchers()
            self._ends.look_around()
        else:
            for shadow, _, ids in report.changes:
                for key in among(self._for_job, shadow, ids):
                    _wake(self._for_job[key])
            self._ends.take(report.changes)
        for listener in self._listeners:
            if listener.full():
                listener.get_nowait()
                report.is_truncated = True
            listener.put_nowait(report)

    def _wake_watchers(self) -> None:
        for events in self._for_job.values():
            _wake(events)

    def stop_waiting(self) -> None:
        """The process is to end: whoever watches a job looks around, and nobody waits for an end any more."""
        self._is_stopping = True
        self._wake_watchers()
        self._ends.release()

    def expect(self, id_: str) -> None:
        """A job with an id of our making is about to be sent: it is not in the view before a report names it."""
        self._ends.expect(id_)

    def job(self, key: JobKey) -> Job | None:
        """The job as the view has it now."""
        return self._guard(lambda: self._own_reader().job(key.id, shadow=key.shadow))

    def position(self, at: TopicPartition) -> int:
        """The next offset of a partition that the view does not hold yet."""
        return self._positions.get(at, 0)

    async def query(self, ask: Callable[[ViewReader], T]) -> T:
        """Read in a thread of its own what may take a while; 503 while too many do."""
        if self._queries >= self._limits.max_queries:
            raise unavailable(f"{self._queries} queries are running or waiting; try again")
        self._queries += 1
        generation = self._generation
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: self._guard(lambda: ask(self._thread_reader(generation)))
            )
        finally:
            self._queries -= 1

    @asynccontextmanager
    async def watching_job(self, key: JobKey) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever the job's outcome changes, and by `stop_waiting`."""
        with self._registered(self._for_job, [key]) as event:
            yield event

    async def ended(self, key: JobKey, *, timeout: float) -> Job | None:
        """The job once it has ended, or as it is after `timeout` seconds, or when the process is to end."""
        if self._is_stopping or self._ends.may_be_known(key):
            job = self.job(key)
            if self._is_stopping or (job is not None and job.outcome.state in TERMINAL_STATES):
                return job
        with self._counted():
            job = await self._ends.wait(key, timeout=timeout)
        return self.job(key) if job is None else job

    async def wait_for(self, positions: Mapping[TopicPartition, int], *, timeout: float) -> None:
        """Wait until the view holds the records at these offsets; 503 with the lag if it takes longer."""
        if self._holds(positions):
            return
        with self._registered(self._for_position, positions) as event:
            try:
                async with asyncio.timeout(timeout):
                    while not self._holds(positions):
                        event.clear()
                        await event.wait()
            except TimeoutError:
                behind = {f"{at}": offset + 1 - self.position(at) for at, offset in positions.items()}
                raise unavailable(
                    f"the view has not read as far as min_position within {timeout:g} s",
                    kind="urn:logqueue:view-behind",
                    extra={"lag": {at: lag for at, lag in behind.items() if lag > 0}},
                ) from None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[asyncio.Queue[Report]]:
        """The fold's reports from now on. A listener that does not keep up loses the oldest."""
        queue: asyncio.Queue[Report] = asyncio.Queue(_LISTENER_REPORTS)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    @contextmanager
    def _registered(self, table: dict[K, set[asyncio.Event]], keys: Collection[K]) -> Iterator[asyncio.Event]:
        with self._counted():
            event = asyncio.Event()
            for key in keys:
                table.setdefault(key, set()).add(event)
            try:
                yield event
            finally:
                for key in keys:
                    events = table[key]
                    events.discard(event)
                    if not events:
                        del table[key]

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """For the time that a request waits; 503 while too many do."""
        if self._waiting >= self._limits.max_waiting:
            raise unavailable(f"{self._waiting} requests wait for the view already; try again")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def _holds(self, positions: Mapping[TopicPartition, int]) -> bool:
        return all(self.position(at) > offset for at, offset in positions.items())

    def _begin_generation(self, generation: str) -> None:
        """Another file lies at the path: read that one from now on."""
        self._close_reader()
        self._generation = generation
        try:
            self._positions = self._own_reader().positions()
            self._reload_definitions()
        except (ViewUnavailable, sqlite3.DatabaseError) as error:
            _log.warning("the view cannot be read yet", reason=str(error))
            self._generation = ""

    def _reload_definitions(self) -> None:
        self.catalogue = Catalogue(self._guard(lambda: self._own_reader().definitions()))

    def _own_reader(self) -> ViewReader:
        if self._reader is None:
            self._reader = ViewReader.open(self._path)
        return self._reader

    def _thread_reader(self, generation: str) -> ViewReader:
        """The reader of the calling thread, opened anew when the file is another one."""
        held: tuple[str, ViewReader] | None = getattr(self._readers, "held", None)
        if held is not None and held[0] == generation:
            return held[1]
        if held is not None:
            self._thread_readers.remove(held[1])
            held[1].close()
            self._readers.held = None
        reader = ViewReader.open(self._path)
        self._readers.held = (generation, reader)
        self._thread_readers.append(reader)
        return reader

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _guard(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except sqlite3.DatabaseError as error:
            # The fold notices too, and makes the view anew.
            raise ViewUnavailable(f"the view {self._path} cannot be read now: {error}") from error


def _wake(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        event.set()
