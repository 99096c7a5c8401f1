"""Many small waits for the disk at once, for starting and stopping with many logs. Knows nothing of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Result = TypeVar("Result")

MAX_THREADS = 8
MIN_TASKS = 8
"""Fewer tasks run on the caller's thread: importing and starting a pool costs about as much."""


def run_all(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Run independent tasks, which mostly wait for fsync, and answer their results in order.

    All of them are run to their end; then the first error, if there was one, is raised.
    """
    if len(tasks) < MIN_TASKS:
        return _run_here(tasks)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="logqueue-disk") as pool:
        futures = [pool.submit(task) for task in tasks]
    return [future.result() for future in futures]


def _run_here(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    results: list[Result] = []
    failure: Exception | None = None
    for task in tasks:
        try:
            results.append(task())
        except Exception as error:  # raised once all have run
            failure = failure or error
    if failure is not None:
        raise failure
    return results
