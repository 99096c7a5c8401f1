"""What operators have asked for, as the API knows it: shown with jobs, and swept when it stands for nothing. Shell."""

from __future__ import annotations

import asyncio
from typing import Any, Final, NoReturn

import structlog
from aiokafka.errors import KafkaError
from logqueue_consumers.control.command_writer import CommandWriter
from logqueue_consumers.control.sweep import Known, stale_keys
from logqueue_consumers.control.tail import ControlTail
from logqueue_consumers.topics.listing import partition_counts
from logqueue_consumers.view.job import TERMINAL_STATES, Job, JobKey

from logqueue.clock import Clock
from logqueue.errors import LogqueueError
from logqueue.jobs.settings import Settings
from logqueue_api.rest.view_access import ViewAccess
from logqueue_api.rest.wire import time_text

LOOK_SECONDS: Final = 2.0
SWEEP_SECONDS: Final = 60.0

_log = structlog.get_logger("logqueue.api")


class ControlWatch:
    """Follows the control topic from the moment that there is one."""

    def __init__(self, settings: Settings, *, view: ViewAccess, writer: CommandWriter, clock: Clock) -> None:
        self._settings = settings
        self._view = view
        self._writer = writer
        self._clock = clock
        self.tail = ControlTail(settings)

    async def run(self) -> NoReturn:
        """Follow and sweep, until cancelled."""
        try:
            await self._wait_for_topic()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.tail.run())
                while True:
                    await asyncio.sleep(SWEEP_SECONDS)
                    await self._sweep()
        finally:
            await self.tail.stop()

    def asked_of(self, job: Job) -> dict[str, Any]:
        """What a job's details say of commands that wait to be obeyed."""
        cancel = self.tail.state.cancel_of(job.key.id, job.outcome.replay)
        if cancel is None or job.key.shadow or job.outcome.state in TERMINAL_STATES:
            return {}
        asked = {"by": cancel.by, "at": time_text(cancel.at_ms * 1000), "reason": cancel.reason}
        return {"cancel_requested": asked}

    async def _wait_for_topic(self) -> None:
        """Asking for its metadata would create the topic, with the broker's defaults."""
        while True:
            try:
                if self._settings.topics.control in await partition_counts(self._settings):
                    return
            except (KafkaError, LogqueueError, OSError, TimeoutError) as error:
                _log.debug("control topic not looked for", error=repr(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def _sweep(self) -> None:
        state = self.tail.state
        if not (state.cancels or state.run_nows) or not self._view.is_caught_up:
            return
        try:
            stale = stale_keys(state, now_ms=self._clock.time_ms(), look=self._known)
            await self._writer.withdraw(stale, at_ms=self._clock.time_ms())
        except (KafkaError, LogqueueError, OSError, TimeoutError) as error:
            _log.warning("commands not swept, trying again", error=repr(error))

    def _known(self, job_id: str) -> Known | None:
        job = self._view.job(JobKey(job_id))
        return None if job is None else Known(job.outcome.replay, job.outcome.state in TERMINAL_STATES)
