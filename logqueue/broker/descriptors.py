"""How many files the process may have open at once, and who gets them: the logs' files or connections. Opens none."""

from __future__ import annotations

import resource
from typing import NamedTuple

from logqueue.config import INT_MAX
from logqueue.storage.open_files import DEFAULT_MAX_OPEN_FILES

SPARE = 128
"""For everything that is neither a segment nor a connection: files that are open for a moment, journals, pipes."""


class Shares(NamedTuple):
    """The most segments' files that stay open, and the most connections."""

    files: int
    connections: int


def raise_limit() -> None:
    """Have the process allowed all that it may allow itself: by default most systems begin with 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass  # macOS says "unlimited" and means another number


def allowed() -> int:
    """How many files the process may have open at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return INT_MAX if soft == resource.RLIM_INFINITY else soft


def share(descriptors: int) -> Shares:
    """Connections leave room for all files that the logs may want; where there are few, each side gets about half.

    Otherwise whoever opens connections would keep everybody from writing.
    """
    connections = max(descriptors - DEFAULT_MAX_OPEN_FILES - SPARE, descriptors // 2)
    files = max(descriptors - connections - SPARE, descriptors // 4, 1)
    return Shares(min(files, DEFAULT_MAX_OPEN_FILES), connections)
