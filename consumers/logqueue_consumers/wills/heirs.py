"""Looks for workers of the same group and machine that were killed, and settles what they left. Shell.

Every worker looks, so those that live take over within a second, and one that is started anew by the same command finds
what its forerunner left even if nobody else lives. The file's lock sees to it that only one does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog
from aiokafka.errors import KafkaError

from logqueue.errors import LogqueueError
from logqueue.jobs.settings import Settings
from logqueue_consumers.transactions.wire import BrokerError
from logqueue_consumers.wills import will_file
from logqueue_consumers.wills.last_will import LastWill
from logqueue_consumers.wills.will import Will, decode

log = structlog.get_logger(__name__)

LOOK_S = 0.5
"""How often it is looked whether somebody has died."""
MAX_BACKOFF_S = 5.0
"""... while the log does not answer."""
SETTLE_S = 10.0
"""How long settling one will may take."""
JOIN_S = 3.0
"""How long others wait to leave until this worker has joined."""
JOIN_POLL_S = 0.02


class Heirs:
    """This worker as one of those who settle."""

    def __init__(
        self,
        own: LastWill,
        settings: Settings,
        *,
        group: str,
        transaction_timeout_ms: int,
        is_static: bool,
        member_id: Callable[[], str | None],
        take_off_list: Callable[[str], Awaitable[object]],
    ) -> None:
        """`member_id` is this worker's in `group`; `take_off_list` removes a worker's heartbeat by its name.

        What a static member (`is_static`) has in the group waits for it when it dies.
        """
        self._own = own
        self._settings = settings
        self._group = group
        self._transaction_timeout_ms = transaction_timeout_ms
        self._is_static = is_static
        self._member_id = member_id
        self._take_off_list = take_off_list

    async def run(self) -> NoReturn:
        """Look until cancelled, and note the own membership as soon as there is one."""
        backoff_s = LOOK_S
        while True:
            self.note_member()
            try:
                await self.look()
            except (KafkaError, LogqueueError, OSError, TimeoutError) as error:
                log.warning("a killed worker's will is not settled yet", error=str(error) or repr(error))
                await asyncio.sleep(backoff_s)
                backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)
            else:
                backoff_s = LOOK_S
                await asyncio.sleep(LOOK_S if self._member_id() is not None else JOIN_POLL_S)

    def note_member(self) -> None:
        """Put this worker's place in the group into its own will."""
        if not self._is_static and (member_id := self._member_id()) is not None:
            self._own.is_member(self._group, member_id)

    async def look(self) -> None:
        """Settle what is found now. Raises what `settle` raises where the log does not answer; then look again.

        Nothing where this worker could put no will of its own: the folder may be somebody else's, and say anything.
        """
        if self._own.path is None:
            return
        for path in will_file.paths(self._own.folder, f"{self._own.key}-"):
            if path == self._own.path:
                continue
            with will_file.claim(path) as found:
                if found is None:
                    continue
                will = decode(found.read())
                if will is not None:
                    await self._settle(will)
                found.remove()

    async def _settle(self, will: Will) -> None:
        from logqueue_consumers.wills.settlement import settle  # seldom needed; start-up is imports

        log.warning("a worker was killed: its place is given free", worker=will.worker)
        try:
            async with asyncio.timeout(SETTLE_S):
                await settle(
                    will,
                    self._settings,
                    transaction_timeout_ms=self._transaction_timeout_ms,
                    own_id=self._own.will.transactional_id,
                    before_leaving=self._joined,
                )
                if will.worker != self._own.will.worker:  # in a container every process may have the same name
                    await self._take_off_list(will.worker)
        except BrokerError as error:
            # It refuses, and will do so again.
            log.warning("not settled: its group waits for its session", worker=will.worker, error=str(error))

    async def _joined(self) -> None:
        """Wait until this worker is on its way into the group, for a while.

        A group that the last member leaves is empty, and lets the next one wait for others (KIP-134: 3 s by default).
        """
        for _ in range(round(JOIN_S / JOIN_POLL_S)):
            if self._member_id() is not None:
                return
            await asyncio.sleep(JOIN_POLL_S)
