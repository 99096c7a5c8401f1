"""logqueue: a durable job queue that is a Kafka log.

The public names are loaded when they are first used (PEP 562), so that a broker process does not import a client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from logqueue.version import __version__

if TYPE_CHECKING:
    from logqueue.jobs.app import App
    from logqueue.jobs.breaker import Breaker
    from logqueue.jobs.context import JobContext
    from logqueue.jobs.errors import Permanent, Snooze
    from logqueue.jobs.limits import Limit
    from logqueue.jobs.retry import Retry
    from logqueue.jobs.unique import Unique

_HOMES = {
    "Unique": "logqueue.jobs.unique",
    "App": "logqueue.jobs.app",
    "Breaker": "logqueue.jobs.breaker",
    "JobContext": "logqueue.jobs.context",
    "Permanent": "logqueue.jobs.errors",
    "Limit": "logqueue.jobs.limits",
    "Retry": "logqueue.jobs.retry",
    "Snooze": "logqueue.jobs.errors",
}

__all__ = [
    "App",
    "Breaker",
    "JobContext",
    "Limit",
    "Permanent",
    "Retry",
    "Snooze",
    "Unique",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'logqueue' has no attribute {name!r}")
