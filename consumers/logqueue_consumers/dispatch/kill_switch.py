"""Kill switches: jobs that operators have forbidden to run, by type, queue, tenant and arguments. No IO.

The value of `kill/<name>` in `jobs.control` selects: {"type": "email.send", "arguments": {"campaign": 7}}. What is
given has to match, at least a type. A job that matches ends as `cancelled` when it could run, while the switch stands;
jobs that run go on. Jobs waiting in memory are ended at once, the others when their turn comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from logqueue.jobs.control import KILL, Cancel
from logqueue_consumers.control.cancelled import cancelled
from logqueue_consumers.gates import Finish

if TYPE_CHECKING:
    from logqueue.jobs.control import ControlState
    from logqueue_consumers.job import Job

log = structlog.get_logger(__name__)


class KillSwitches:
    """A gate that ends the jobs that a switch selects."""

    def __init__(self) -> None:
        self._by_type: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_type)

    def set(self, state: ControlState) -> None:
        """These are thrown."""
        self._by_type = {}
        for name, value in state.under(KILL):
            type_ = value.get("type")
            if isinstance(type_, str) and isinstance(value.get("arguments", {}), Mapping):
                self._by_type.setdefault(type_, []).append((name, value))
            else:
                log.warning("kill switch not understood: it has no type, or its arguments are no object", name=name)

    def check(self, job: Job, now_ms: int) -> Finish | None:
        """A verdict for a job that a switch selects."""
        for name, value in self._by_type.get(job.type or "", ()):
            if matches(job, value):
                by, at_ms = str(value.get("by", "unknown")), value.get("at")
                cancel = Cancel(job.headers.replay, by, at_ms if isinstance(at_ms, int) else 0, f"kill switch {name}")
                return Finish(cancelled(job, cancel, now_us=now_ms * 1000))
        return None


def matches(job: Job, selector: Mapping[str, Any]) -> bool:
    """Whether everything that the selector names is so of the job."""
    if "queue" in selector and selector["queue"] != job.partition.queue:
        return False
    if "tenant" in selector and selector["tenant"] != job.tenant:
        return False
    arguments = selector.get("arguments") or {}
    return all(getattr(job.arguments, name, _MISSING) == value for name, value in arguments.items())


_MISSING = object()
