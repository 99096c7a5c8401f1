"""The three screens of `up`: live on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from logqueue.version import __version__
from logqueue_api.up.board import Addresses, Board, Screen
from logqueue_api.up.child import Notice
from logqueue_api.up.counts import STATES, QueueCounts
from logqueue_api.up.hints import Hint

if TYPE_CHECKING:
    from rich.console import RenderableType

PLAIN_COUNT_SECONDS = 5.0
STILL_LINES = 45  # of the part that stands still and the live part together, about
ALWAYS_SHOWN = ("queued", "running", "retrying", "succeeded", "dead")


def make_screen(board: Board, *, is_json: bool, stream: TextIO | None = None) -> Screen:
    """The screen that fits where the output goes."""
    out = stream or sys.stdout
    if is_json:
        return JsonScreen(out)
    return LiveScreen(out, board) if out.isatty() else PlainScreen(out)


def shown_states(queues: Sequence[QueueCounts]) -> list[str]:
    """The states worth a column: the usual ones, and any other that a queue has jobs in."""
    return [s for s in STATES if s in ALWAYS_SHOWN or any(queue.counts.get(s) for queue in queues)]


class JsonScreen:
    """One JSON object a line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last: list[dict[str, Any]] = []

    def phase(self, text: str) -> None:
        self._print({"event": "phase", "text": text})

    def ready(self, addresses: Addresses, hints: Sequence[Hint], run: dict[str, Any]) -> None:
        self._print({"event": "ready", **run})

    def notice(self, notice: Notice) -> None:
        self._print({"event": "notice", "child": notice.child, "text": notice.text, "is_problem": notice.is_problem})

    def draw(self, board: Board) -> None:
        items = [{"queue": queue.queue, "counts": dict(queue.counts)} for queue in board.queues]
        if items != self._last:
            self._last = items
            self._print({"event": "counts", "items": items})

    def close(self) -> None:
        pass

    def _print(self, value: dict[str, Any]) -> None:
        print(json.dumps(value), file=self._out, flush=True)


class PlainScreen:
    """Lines, for a file or a pipe; counts every few seconds and only when they have changed."""

    def __init__(self, out: TextIO, *, now: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._now = now
        self._told_at = 0.0
        self._last = ""

    def phase(self, text: str) -> None:
        self._print(text)

    def ready(self, addresses: Addresses, hints: Sequence[Hint], run: dict[str, Any]) -> None:
        self._print(f"logqueue {__version__} is up")
        for label, value in address_lines(addresses):
            self._print(f"  {label:<10} {value}")
        self._print("try next, in another terminal:")
        for hint in hints:
            self._print(f"# {hint.what}\n{hint.line}")

    def notice(self, notice: Notice) -> None:
        self._print(f"{notice.child}: {notice.text}")

    def draw(self, board: Board) -> None:
        if self._now() - self._told_at < PLAIN_COUNT_SECONDS:
            return
        text = "\n".join(self._count_line(queue) for queue in board.queues)
        if text and text != self._last:
            self._told_at, self._last = self._now(), text
            self._print(text)

    def close(self) -> None:
        pass

    def _count_line(self, queue: QueueCounts) -> str:
        counts = ", ".join(f"{queue.counts[s]} {s}" for s in STATES if queue.counts.get(s))
        return f"{queue.queue}: {counts or 'no jobs'}"

    def _print(self, text: str) -> None:
        print(text, file=self._out, flush=True)


def address_lines(addresses: Addresses) -> list[tuple[str, str]]:
    """(label, text) of where everything is."""
    log = "embedded, any Kafka client" if addresses.is_embedded else "your own cluster"
    lines = [
        ("log", f"{addresses.bootstrap}  ({log})"),
        ("API", addresses.api),
        ("docs", addresses.docs),
        ("dashboard", addresses.dashboard),
        *([("metrics", addresses.metrics)] if addresses.metrics else []),
        ("data", addresses.data_dir),
    ]
    return lines + ([("app", addresses.app)] if addresses.app else [])


class LiveScreen:
    """Addresses and hints stand still above, so that they can be copied; below them a part that is drawn again."""

    def __init__(self, out: TextIO, board: Board) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=out, highlight=False)
        self._board = board
        self._addresses: Addresses | None = None
        # Drawn from our own loop: no thread of rich's is there when a child is forked.
        self._live = Live(
            get_renderable=self._render, console=self._console, auto_refresh=False, vertical_overflow="crop"
        )
        self._live.start()

    def phase(self, text: str) -> None:
        self._live.refresh()

    def ready(self, addresses: Addresses, hints: Sequence[Hint], run: dict[str, Any]) -> None:
        from rich.text import Text

        self._addresses = addresses
        show = self._console.print
        show(Text.assemble(("logqueue ", "bold"), (__version__, "bold"), " is up"))
        show()
        for label, value in address_lines(addresses):
            show(Text.assemble((f"  {label:<10}", "cyan"), value), soft_wrap=True)
        show()
        show(Text("try next, in another terminal", style="bold"))
        for hint in hints:
            show(Text(f"# {hint.what}", style="dim"))
            # At the left edge and never wrapped by us, so that it can be copied as it stands.
            show(Text(hint.line), soft_wrap=True)
        show()
        self._live.refresh()

    def notice(self, notice: Notice) -> None:
        self._live.refresh()

    def draw(self, board: Board) -> None:
        self._live.refresh()

    def close(self) -> None:
        self._live.stop()

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        board = self._board
        parts: list[RenderableType] = [] if board.is_over else [_children_line(board), Text()]
        if self._addresses is not None and self._console.height < STILL_LINES:  # it has scrolled away
            one_line = f"{self._addresses.bootstrap}  {self._addresses.dashboard}  {self._addresses.docs}"
            parts.insert(0, Text(one_line, style="cyan", overflow="ellipsis", no_wrap=True))
        if board.queues:
            parts.append(_queue_table(board.queues))
        if board.feed:
            parts += [Text(), Text.assemble(("feed  ", "cyan"), board.feed, overflow="ellipsis", no_wrap=True)]
        if board.problems:
            parts.append(Text())
        for moment, notice in board.problems:
            style = "red" if notice.is_problem else "dim"
            line = notice.text.partition("\n")[0]
            parts.append(Text(f"{moment} {notice.child}: {line}", style=style, overflow="ellipsis", no_wrap=True))
        last = board.phase if board.is_over else "Ctrl-C stops everything in order; the next start continues"
        parts += [Text(), Text(last, style="bold" if board.is_over else "dim")]
        return Group(*parts)


_STATE_STYLES = {
    "ready": "green",
    "done": "green",
    "starting": "yellow",
    "restarting": "red",
    "failed": "red",
    "stopping": "yellow",
}


def _children_line(board: Board) -> RenderableType:
    from rich.text import Text

    line = Text(f"{board.phase}  ", style="bold") if board.phase else Text()
    for child in board.children:
        line.append("● ", style=_STATE_STYLES.get(child.state, "dim"))
        state = "" if child.state == "ready" else f" {child.state}"
        again = f" (restarted {child.restarts}x)" if child.restarts else ""
        line.append(f"{child.name}{state}{again}   ")
    return line


def _queue_table(queues: Sequence[QueueCounts]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="cyan")
    table.add_column("queue")
    states = shown_states(queues)
    for state in states:
        table.add_column(state, justify="right")
    table.add_column("jobs/s", justify="right")
    for queue in queues:
        cells = [f"{queue.counts.get(state, 0):,}" for state in states]
        table.add_row(queue.queue, *cells, f"{queue.rate:,.0f}")
    return table
