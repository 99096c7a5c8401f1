"""What became of a task, in Celery's words. Blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logqueue.jobs.errors import WaitTimeout
from logqueue.jobs.handle import JobHandle, JobState

if TYPE_CHECKING:
    from logqueue.celery.application import Celery

STATES: Final = {
    "running": "STARTED",
    "retrying": "RETRY",
    "succeeded": "SUCCESS",
    "dead": "FAILURE",
    "cancelled": "REVOKED",
    "expired": "REVOKED",
}
"""Celery's word for ours; everything else is PENDING."""
READY: Final = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
WAIT_ROUND_S: Final = 3600.0
"""`get` without a timeout waits in rounds of this."""


class AsyncResult:
    """What became of a task."""

    def __init__(self, celery: Celery, handle: JobHandle) -> None:
        self._celery = celery
        self.handle = handle

    @property
    def id(self) -> str:
        """The task's id, which is the job's."""
        return self.handle.id

    @property
    def state(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE or REVOKED (cancelled, or expired)."""
        found = self._state()
        return "PENDING" if found is None else STATES.get(str(found.state), "PENDING")

    status = state

    @property
    def result(self) -> Any:
        """What the task returned, the text of its error, or None while it has not ended."""
        found = self._state()
        if found is None or not found.is_terminal:
            return None
        return found.result if found.has_succeeded else found.error_message

    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state in READY

    def successful(self) -> bool:
        """Whether it ended well."""
        return self.state == "SUCCESS"

    def failed(self) -> bool:
        """Whether it failed for good."""
        return self.state == "FAILURE"

    def get(self, timeout: float | None = None, *, propagate: bool = True) -> Any:
        """What the task returns, once it has. WaitTimeout (a TimeoutError) after `timeout` seconds.

        JobFailed tells why it failed; with propagate=False the error's text is returned instead.
        """
        state = self._wait(timeout)
        if propagate:
            state.raise_for_state()
        return state.result if state.has_succeeded else state.error_message

    def _wait(self, timeout: float | None) -> JobState:
        seconds = WAIT_ROUND_S if timeout is None else timeout
        while True:
            try:
                return self._celery.do(lambda client: client.wait(self.handle, timeout_s=seconds))
            except WaitTimeout:
                if timeout is not None:
                    raise

    def _state(self) -> JobState | None:
        return self._celery.do(lambda client: client.status(self.handle))

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"
