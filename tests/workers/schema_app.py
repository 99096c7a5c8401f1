"""An App whose isolated handlers take Avro and a model: the processes of the pool import it from here."""

from __future__ import annotations

from datetime import datetime

import pydantic

from logqueue import App
from logqueue.jobs.context import JobContext
from logqueue.jobs.settings import Settings

app = App("isolated-schemas", settings=Settings())


class Letter(pydantic.BaseModel):
    to: str = pydantic.Field(alias="for")
    pages: int = 1


@app.job("note", queue="isolated", isolation="process", arguments="note.avsc")
def note(ctx: JobContext, *, text: str, at: datetime | None) -> str:
    if at is not None:
        ctx.send(app.jobs["note"].prepare(text=text + "!"))
    return f"{text} {at}"


@app.job("letter", queue="isolated", isolation="process")
def letter(letter: Letter) -> str:
    return letter.to * letter.pages
