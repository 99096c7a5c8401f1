"""A child that cannot outlive its parent, however the parent ends: PR_SET_PDEATHSIG (prctl(2)). Linux only.

Loaded in the parent; `die_with_parent` runs in the child between fork and exec, so it only makes two system calls.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def _find_prctl() -> Callable[..., int] | None:
    try:
        found: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):  # not Linux: a killed supervisor leaves its children to the user
        return None
    return found


_prctl = _find_prctl()


def die_with_parent(parent: int) -> Callable[[], None] | None:
    """What to run in the child (`preexec_fn`) so that it is killed when process `parent` ends; None if unsupported.

    SIGKILL, not SIGTERM: whoever kills the supervisor with -9 asks for what a power cut does, and the data folder is
    made for that; a child that ignores SIGTERM would stay for ever.
    """
    prctl = _prctl
    if prctl is None:
        return None

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended between fork and prctl
            os._exit(128 + signal.SIGKILL)

    return bind
