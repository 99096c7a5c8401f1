"""A worker that is told to stop while it starts: whatever its clients then end with, no traceback is left."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from logqueue_consumers.workbench import unless


def test_a_preparation_that_fails_as_it_is_cancelled_leaves_no_unasked_error() -> None:
    unasked: list[dict[str, Any]] = []
    asyncio.run(_stop_while_it_prepares(unasked))
    assert unasked == []


async def _stop_while_it_prepares(unasked: list[dict[str, Any]]) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unasked.append(context))
    stopping = asyncio.Event()

    async def prepare() -> None:
        stopping.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("cut while it connected") from None

    assert await unless(stopping, prepare()) is False
    gc.collect()
