"""The connection of an app or an API to the log: sends jobs and waits for them. Shell over aiokafka."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from logqueue.clock import Clock
from logqueue.jobs.handle import JobHandle, JobState
from logqueue.jobs.sending import PreparedJob
from logqueue.jobs.settings import Settings

if TYPE_CHECKING:
    from logqueue.jobs.app import App


class JobClient:
    def __init__(self, settings: Settings, *, app: App | None = None, clock: Clock) -> None:
        self.settings = settings

    async def send(self, job: PreparedJob) -> JobHandle:
        raise NotImplementedError

    async def send_many(self, jobs: Iterable[PreparedJob]) -> list[JobHandle]:
        raise NotImplementedError

    async def wait(self, handle: JobHandle, *, timeout_s: float) -> JobState:
        raise NotImplementedError

    async def status(self, handle: JobHandle) -> JobState | None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
