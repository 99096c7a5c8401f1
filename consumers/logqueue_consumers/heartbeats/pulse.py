"""Keeps a worker in its group while a handler blocks the event loop: a thread speaks for the loop. Shell.

aiokafka's heartbeats are a task of the loop. An `async` handler that computes for longer than the session timeout would
cost its worker all partitions, and every job that runs there would run again. A daemon thread looks whether the loop
turns; while it does not, the thread sends the group's heartbeats (KIP-62: any connection may) on a connection and in a
loop of its own, with the generation that the member has. It does so for `blocked_loop_s` at most, since a loop that
hangs for good must lose its partitions, and it takes part in no rebalance: that waits for the loop as long as the
rebalance timeout allows. The GIL lets it: pure Python gives it up every few milliseconds; what holds it for good (some
C extensions) needs `isolation="process"`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import structlog
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import HeartbeatRequest

from logqueue.jobs.connection import begun
from logqueue.jobs.settings import Settings

log = structlog.get_logger(__name__)

TURN_S = 0.25
"""How often the loop shows that it turns."""
BLOCKED_SHARE = 0.3
"""Share of the session timeout after which a loop that does not turn is spoken for, and then how often."""


class Identity(NamedTuple):
    """What the group calls a member, and the generation that it is in."""

    member_id: str
    generation: int


class Pulse:
    """One worker's thread. `beats` counts what it has sent."""

    def __init__(
        self,
        settings: Settings,
        *,
        group: str,
        identity: Callable[[], Identity | None],
        running_types: Callable[[], list[str]],
        session_timeout_s: float,
        blocked_loop_s: float,
    ) -> None:
        self._settings = settings
        self._group = group
        self._identity = identity
        self._running_types = running_types
        self._after_s = session_timeout_s * BLOCKED_SHARE
        self._blocked_loop_s = blocked_loop_s
        self._turned_at_s = time.monotonic()
        self._ended = threading.Event()
        self.beats = 0

    async def run(self) -> NoReturn:
        """Show that the loop turns, until cancelled."""
        thread = threading.Thread(target=self._watch, name="pulse", daemon=True)
        thread.start()
        try:
            while True:
                self._turned_at_s = time.monotonic()
                await asyncio.sleep(TURN_S)
        finally:
            self._ended.set()

    def _watch(self) -> None:
        """In the thread: look, and speak while the loop does not turn."""
        while not self._ended.wait(self._after_s):
            blocked_s = time.monotonic() - self._turned_at_s
            if not self._after_s <= blocked_s <= self._blocked_loop_s:
                continue
            # The loop does not turn, so nothing changes what is read here.
            identity = self._identity()
            if identity is not None:
                log.warning(
                    'a handler blocks the event loop: make it a plain function, or isolation="process"',
                    seconds=round(blocked_s, 1),
                    running=self._running_types(),
                )
                asyncio.run(self._speak(identity))

    async def _speak(self, identity: Identity) -> None:
        """One heartbeat. What the group answers is the loop's to act on when it turns again."""
        client = AIOKafkaClient(**self._settings.connection())
        try:
            async with asyncio.timeout(self._after_s * 2):
                await begun(client.bootstrap())
                node = await client.coordinator_lookup(CoordinationType.GROUP, self._group)
                request = HeartbeatRequest(self._group, identity.generation, identity.member_id)
                await client.send(node, request, group=ConnectionGroup.COORDINATION)
            self.beats += 1
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("no heartbeat sent for the blocked loop", error=repr(error))
        finally:
            await client.close()
