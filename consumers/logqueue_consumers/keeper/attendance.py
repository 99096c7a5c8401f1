"""The keepers beside a worker: started with it, in their thread, told of operators' commands, ended with it. Shell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from logqueue_schemas.job_status import JobStatus

from logqueue.clock import Clock
from logqueue.jobs.control import CANCEL, RUN_NOW, Change
from logqueue.jobs.settings import Settings
from logqueue_consumers.control.tail import ControlTail
from logqueue_consumers.keeper.command_board import CommandBoard

if TYPE_CHECKING:
    from logqueue_consumers.keeper.keepers import Keepers
    from logqueue_consumers.wills.last_will import LastWill


class KeeperHost(Protocol):
    """What keepers run in: a thread, or a task of the same loop where a test holds the time."""

    def start(self) -> None:
        """Begin; returns at once."""
        ...

    def wake(self) -> None:
        """Something that the machines look at has changed."""
        ...

    async def stop(self) -> None:
        """Leave the group and end."""
        ...


async def attend_keepers(
    settings: Settings,
    control: ControlTail,
    encode_status: Callable[[JobStatus], bytes],
    *,
    clock: Clock,
    host: Callable[[Callable[[], Keepers]], KeeperHost] | None = None,
    will: LastWill | None = None,
) -> None:
    """Run this process's keepers until cancelled, in `host` (default: a thread)."""
    # SQLite and the machines are imported when the worker is at work already.
    from logqueue_consumers.keeper.keepers import Keepers
    from logqueue_consumers.keeper.specs import keeper_specs, keeper_topics
    from logqueue_consumers.keeper.thread import KeeperThread

    board = CommandBoard()

    def on_changes(changes: Sequence[Change]) -> None:
        if any(change.kind in (CANCEL, RUN_NOW) for change in changes):
            board.hang(cancels=control.state.cancels, run_nows=control.state.run_nows)

    board.hang(cancels=control.state.cancels, run_nows=control.state.run_nows)
    home: KeeperHost = (host or KeeperThread)(
        lambda: Keepers(
            settings, keeper_specs(settings, encode_status, board), keeper_topics(settings), clock=clock, will=will
        )
    )
    board.on_change = home.wake
    control.listeners.append(on_changes)
    home.start()
    try:
        await asyncio.Event().wait()
    finally:
        control.listeners.remove(on_changes)
        await home.stop()
