"""An app whose code changes with its environment: replays compare one version with the other."""

from __future__ import annotations

import os
from typing import Any

from logqueue import App

BONUS = int(os.environ.get("PRICING_BONUS", "0"))


def make(name: str, *, bonus: int, version: int) -> App:
    app = App(name)
    app.queue("pay", partitions=2)

    async def ask_bank(n: int) -> int:
        return n + 1000

    @app.job("price", queue="pay", version=version)
    async def price(ctx, *, n: int) -> dict[str, Any]:  # type: ignore[no-untyped-def]
        return {"total": n * 10 + bonus, "bank": await ctx.effect(ask_bank, n)}

    return app


app = make(os.environ.get("PRICING_NAME", "pricing"), bonus=BONUS, version=2 if BONUS else 1)
