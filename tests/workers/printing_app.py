"""An app whose handlers print, and end no line."""

from __future__ import annotations

import sys

from logqueue import App


def make(name: str) -> App:
    app = App(name)
    app.queue("print", partitions=1)

    @app.job("say", queue="print")
    async def say(*, text: str) -> None:
        print(text, end="", file=sys.__stdout__, flush=True)  # as a library in C would
        print(text, end="")

    @app.job("say-isolated", queue="print", isolation="process")
    def say_isolated(*, text: str) -> None:
        print(text, end="")

    return app


app = make("printing")
