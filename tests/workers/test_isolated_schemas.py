"""Isolated jobs with Avro arguments and models, in a worker on a log. On every engine."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from logqueue_schemas.framing import read_frame

from tests.consumers.conftest import FAST, Log, working
from tests.workers.schema_app import Letter, app


def test_isolated_jobs_take_avro_and_models_and_send_avro(log: Log) -> None:
    async def main() -> None:
        app.configure(log.settings)
        async with working(app, limits=replace(FAST, isolated_processes=1)):
            one = await app.jobs["note"].send(text="hi", at=datetime(2026, 1, 2, tzinfo=UTC))
            two = await app.jobs["letter"].send(Letter(**{"for": "Ann", "pages": 2}))
            found = {status.id: status.result for status in await log.terminal(count=3)}
        assert found.pop(one.id) == b'"hi 2026-01-02 00:00:00+00:00"'
        assert found.pop(two.id) == b'"AnnAnn"'
        assert list(found.values()) == [b'"hi! None"']
        records = await log.read(log.settings.topics.jobs("isolated"))
        framed = [record.value for record in records if record.value[:1] == b"\0"]
        assert len(framed) == 2
        assert len({read_frame(value)[0] for value in framed}) == 1
        await app.close()

    asyncio.run(main())
