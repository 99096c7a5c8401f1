"""The fold at work: follow the topics, apply what comes, report each commit. Runs until it is cancelled."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog
from aiokafka.errors import KafkaError as ClientError

from logqueue.errors import LogqueueError
from logqueue.jobs.schema_source import Registry
from logqueue.jobs.steady_fetch import FetchingEnded
from logqueue_consumers.view.alignment import Alignment, Read
from logqueue_consumers.view.batches import BatchReader
from logqueue_consumers.view.follower import Follower
from logqueue_consumers.view.reports import Report, Reporter
from logqueue_consumers.view.store import Applied, Batch, ViewStore

_log = structlog.get_logger("logqueue.view")

# With nothing to read a report goes out this often, so that the parent knows the lag and that we live.
REPORT_INTERVAL_SECONDS: Final = 1.0
# A few jobs that were only just queued wait this long for what comes next, mostly their ends: one commit then has both,
# and the fold does not compete for the processor with the worker that runs them.
QUEUED_LINGER_SECONDS: Final = 0.004
# While the view catches up after a start, its end is looked for more often.
_CATCH_UP_SECONDS: Final = 0.02
_RETRY_SECONDS: Final = 0.25


@dataclass(slots=True)
class _Progress:
    is_caught_up: bool = False
    lag: int = 0
    # After a broken connection it may be another log that answers: check before going on.
    is_log_in_doubt: bool = True


class Fold:
    """Folds the topics that `follower` reads into `store`, telling `reporter` of every commit."""

    def __init__(
        self,
        *,
        follower: Follower,
        store: ViewStore,
        reader: BatchReader,
        registry: Registry,
        reporter: Reporter | None,
        discovery_interval: float,
    ) -> None:
        self._follower = follower
        self._store = store
        self._reader = reader
        self._registry = registry
        self._reporter = reporter
        self._discovery_interval = discovery_interval
        self._must_discover = asyncio.Event()
        self._alignment = Alignment(follower, follows_statuses=reader.follows_statuses, origins=reader.origins)
        self._progress = _Progress()

    def discover_soon(self) -> None:
        """Look for new topics now instead of at the end of the interval."""
        self._must_discover.set()

    async def run(self) -> NoReturn:
        """Fold until cancelled. FetchingEnded where the follower can read no more; a log that is away is waited for."""
        self._follower.start_at(self._store.positions())
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._discover_forever())
                tasks.create_task(self._fold_forever())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None  # the other one was cancelled for it; the parent reads the last line
        raise AssertionError("the fold ends by cancellation only")

    async def _discover_forever(self) -> NoReturn:
        while True:
            try:
                if self._progress.is_log_in_doubt:
                    await self._check_log()
                await self._follower.discover()
            except (ClientError, OSError) as error:
                self._progress.is_log_in_doubt = True
                _log.warning("the log cannot be reached; trying again", reason=str(error))
            try:
                async with asyncio.timeout(self._discovery_interval):
                    await self._must_discover.wait()
            except TimeoutError:
                pass
            self._must_discover.clear()

    async def _check_log(self) -> None:
        """Start the view again if the log that answers is not the one it was made from."""
        if not await self._follower.is_same_log(self._store.cluster_id):
            _log.warning("the view was made from another log; starting again", view=str(self._store.path))
            self._start_again()
        self._progress.is_log_in_doubt = False

    async def _fold_forever(self) -> NoReturn:
        self._report(Batch(), Applied(changes={}, has_new_definitions=True))
        while True:
            generation = self._store.generation
            records: Read = []
            try:
                await self._read(records)
            except FetchingEnded:
                raise  # no trying again would help; we are started anew
            except ClientError as error:
                _log.warning("records cannot be read; trying again", reason=str(error))
                self._progress.is_log_in_doubt = True
                if not records:
                    await asyncio.sleep(_RETRY_SECONDS)
            if self._store.generation != generation:
                # The view was started again meanwhile, and some of this may be of the log before.
                self._start_again()
                continue
            if self._reader.new_schemas(records):
                await self._learn_schemas()
            batch = self._reader.read(records)
            applied = self._apply(batch) if records else Applied(changes={}, has_new_definitions=False)
            self._measure()
            self._report(batch, applied)

    async def _read(self, into: Read) -> None:
        if self._progress.is_caught_up:
            into += await self._follower.read(timeout=REPORT_INTERVAL_SECONDS)
        else:
            await self._alignment.read(into, timeout=_CATCH_UP_SECONDS)
        if self._reader.expects_more(into):
            into += await self._follower.read(timeout=QUEUED_LINGER_SECONDS)

    async def _learn_schemas(self) -> None:
        """Another version of us wrote statuses under a schema of its own: it registered that before."""
        try:
            await self._registry.refresh()
        except (LogqueueError, ClientError, TimeoutError) as error:
            _log.warning("schemas cannot be read; statuses of other versions are left out", reason=str(error))

    def _apply(self, batch: Batch) -> Applied:
        try:
            return self._store.apply(batch)
        except sqlite3.OperationalError:
            raise  # the disk is full or gone: nothing that a new file would mend
        except sqlite3.DatabaseError as error:
            _log.warning("the view is damaged; starting again", view=str(self._store.path), reason=str(error))
            self._start_again()
            return Applied(changes={}, has_new_definitions=True)

    def _start_again(self) -> None:
        self._store.rebuild(cluster_id=self._follower.cluster_id)
        self._follower.start_at({})
        self._progress.is_caught_up = False
        self._must_discover.set()

    def _measure(self) -> None:
        lag = self._follower.lag()
        if lag is not None:
            self._progress.lag = lag
            self._progress.is_caught_up |= lag == 0 and not self._progress.is_log_in_doubt

    def _report(self, batch: Batch, applied: Applied) -> None:
        if self._reporter is None:
            return
        report = Report(
            generation=self._store.generation,
            has_new_definitions=applied.has_new_definitions,
            lag=self._progress.lag,
            is_caught_up=self._progress.is_caught_up,
            unreadable=self._reader.unreadable,
        )
        # All that was passed goes with the reports between commits, in case an earlier one was not understood.
        passed = self._follower.passed_lately() if batch.positions else self._follower.passed()
        positions = {**batch.positions, **passed}
        self._reporter.add(report, positions=positions.items(), changes=applied.changes)
