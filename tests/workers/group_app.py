"""An app for worker processes that tests start by command."""

from __future__ import annotations

import asyncio
import os

from logqueue import App

app = App(os.environ.get("GROUP_APP_NAME", "group-app"))
app.queue("grouped", partitions=4)


@app.job("pid", queue="grouped")
async def pid(*, seconds: float = 0.0) -> int:
    await asyncio.sleep(seconds)
    return os.getpid()
