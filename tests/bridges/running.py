"""A bridge that runs while a test looks at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def running(bridge: Any) -> AsyncIterator[None]:
    """Anything with `run(stop)`, told to stop and awaited at the end."""
    stop = asyncio.Event()
    task = asyncio.create_task(bridge.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task
