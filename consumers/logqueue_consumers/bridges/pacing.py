"""Waiting between two tries of a bridge. Shell."""

from __future__ import annotations

import asyncio

FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0


def longer(backoff_s: float) -> float:
    """The wait after one of `backoff_s` that did not help."""
    return min(MAX_BACKOFF_S, backoff_s * 2)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait that long, or until the stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
