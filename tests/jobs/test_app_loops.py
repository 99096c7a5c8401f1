"""An app and the event loops that use it: one at a time."""

from __future__ import annotations

import asyncio

import pytest

from logqueue import App
from logqueue.jobs.errors import InvalidDefinition
from tests.loops import in_loop


@in_loop
async def test_another_loop_can_neither_use_nor_close_an_app_and_takes_nothing_from_it() -> None:
    app = App("shop")
    client = await app.client()
    for use in (app.client, app.close):
        with pytest.raises(InvalidDefinition, match="another event loop"):
            await asyncio.to_thread(lambda use=use: asyncio.run(use()))
    assert await app.client() is client
    await app.close()


def test_an_app_is_used_again_when_its_loop_is_over() -> None:
    app = App("shop")
    first = asyncio.run(app.client())
    assert asyncio.run(app.client()) is not first
    asyncio.run(app.close())
    asyncio.run(app.close())
