"""What the screen shows, as values: filled by `up`, drawn by a screen. Knows neither processes nor terminals."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from logqueue_api.up.child import Notice
from logqueue_api.up.counts import QueueCounts
from logqueue_api.up.hints import Hint

KEPT_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class ChildLine:
    """One child as shown: name, state, pid, how often it was started again."""

    name: str
    state: str
    pid: int | None
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where everything is."""

    bootstrap: str
    api: str
    data_dir: str
    is_embedded: bool
    app: str | None
    metrics: str | None = None

    @property
    def docs(self) -> str:
        return f"{self.api}/docs"

    @property
    def dashboard(self) -> str:
        return f"{self.api}/"


@dataclass(slots=True)
class Board:
    """The present picture."""

    phase: str = "starting"
    children: Sequence[ChildLine] = ()
    queues: Sequence[QueueCounts] = ()
    feed: str = ""
    is_over: bool = False
    problems: deque[tuple[str, Notice]] = field(default_factory=lambda: deque(maxlen=KEPT_PROBLEMS))


class Screen(Protocol):
    """Where the board is drawn: a terminal, plain lines, JSON lines."""

    def phase(self, text: str) -> None:
        """Something has begun: `starting the log`, `stopping`."""

    def ready(self, addresses: Addresses, hints: Sequence[Hint], run: dict[str, Any]) -> None:
        """Everything runs."""

    def notice(self, notice: Notice) -> None:
        """Something happened to a child."""

    def draw(self, board: Board) -> None:
        """The picture has changed; called a few times a second."""

    def close(self) -> None:
        """Nothing more is drawn."""
