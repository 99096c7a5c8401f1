"""Waiting for a change without holding up the end of the process."""

from __future__ import annotations

import asyncio


async def happens(event: asyncio.Event, stopping: asyncio.Event, seconds: float | None = None) -> bool:
    """Whether one of the two is set within this time (None: however long it takes)."""
    waiting = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(stopping.wait())]
    try:
        done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for task in waiting:
            task.cancel()
