"""What a child is told and what is known of it. Values and states only; the supervisor moves them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from logqueue_api.up.backoff import Backoff
from logqueue_api.up.child_log import ChildLog
from logqueue_api.up.process import Process

Ready = re.Match[str]


class ChildState(Enum):
    """WAITING -> STARTING -> READY -> (BACKING_OFF -> STARTING ...) -> STOPPING -> ENDED; FAILED ends them all."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "restarting"
    STOPPING = "stopping"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One child of the supervisor.

    command       builds the command line; given the last ready line's match, so that a restart keeps its port
    ready_line    what it prints when it is ready; None: it is ready as soon as it runs
    ready_seconds, stop_seconds   the longest wait for each; past it the child is killed
    is_one_shot   ends by itself: exit code 0 is its success, and it is not started again
    final_codes   exit codes of a first start that no second start mends
    """

    name: str
    command: Callable[[Ready | None], Sequence[str]]
    environment: Mapping[str, str]
    ready_line: re.Pattern[str] | None = None
    ready_seconds: float = 60.0
    stop_seconds: float = 10.0
    is_one_shot: bool = False
    final_codes: frozenset[int] = frozenset()


@dataclass(slots=True, eq=False)
class Child:
    """A child and its present run."""

    spec: ChildSpec
    backoff: Backoff
    log: ChildLog
    state: ChildState = ChildState.WAITING
    process: Process | None = None
    ready: Ready | None = None
    was_ready: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    ready_line_seen: asyncio.Event = field(default_factory=asyncio.Event)
    restarts: int = 0

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should see: a child's name, what happened, and whether it is a problem."""

    child: str
    text: str
    is_problem: bool = False
