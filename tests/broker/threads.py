"""Threads that cannot be had for a while, as with a bound on the processes of a container."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Threads(ThreadPoolExecutor):
    """Pass to `loop.set_default_executor`: while `is_exhausted` nothing can be handed to a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.is_exhausted = False
        self.refused = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.is_exhausted:
            self.refused += 1
            raise RuntimeError("can't start new thread")
        return super().submit(fn, *args, **kwargs)
