"""Everything that the routes share, and how a route gets at it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from logqueue_consumers.control.operator import Operator
from logqueue_consumers.heartbeats.tail import RosterTail
from logqueue_consumers.view.child import FoldChild

from logqueue.clock import Clock
from logqueue.jobs.client import JobClient
from logqueue.jobs.settings import Settings
from logqueue_api.rest.aside import Scans
from logqueue_api.rest.cluster import Cluster
from logqueue_api.rest.control_watch import ControlWatch
from logqueue_api.rest.letter_totals import LetterTotals
from logqueue_api.rest.limits import ApiLimits
from logqueue_api.rest.metrics import ApiMetrics
from logqueue_api.rest.operations import Operations
from logqueue_api.rest.replay_runs import ReplayRuns
from logqueue_api.rest.submission import Submission
from logqueue_api.rest.view_access import ViewAccess


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOptions:
    """What an API was started for besides serving. `counts_workers`: /healthz speaks for the workers too (`up`).

    `app` is what replays run (module:name or file.py), None where there is no app.
    """

    counts_workers: bool = False
    app: str | None = None


@dataclass(slots=True, kw_only=True)
class Services:
    """The parts of one API process. `stopping` is set when it shuts down, so that event streams and waits end."""

    settings: Settings
    limits: ApiLimits
    clock: Clock
    view: ViewAccess
    fold: FoldChild
    client: JobClient
    submission: Submission
    cluster: Cluster
    metrics: ApiMetrics
    workers: RosterTail
    replays: ReplayRuns
    operator: Operator
    operations: Operations
    control: ControlWatch
    options: ApiOptions = field(default_factory=ApiOptions)
    letter_totals: LetterTotals = field(default_factory=LetterTotals)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    streams: int = 0
    scans: Scans = field(default_factory=Scans)

    def stop(self) -> None:
        """The process is to end: streams and waits are over."""
        self.stopping.set()
        self.view.stop_waiting()


async def services_of(request: Request) -> Services:
    """The services of the app that serves this request. Async, or each request would wait for a thread to answer it."""
    services: Services = request.app.state.services
    return services


ServicesOf = Annotated[Services, Depends(services_of)]
