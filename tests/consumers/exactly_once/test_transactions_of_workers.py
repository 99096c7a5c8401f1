"""When a worker's transactions are open, and that workers of both ways of processing take over from each other."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from logqueue_consumers.commits.notes import read_notes
from logqueue_consumers.transactions.wire import TRANSACTION, LogClient
from logqueue_schemas.job_status import State

from logqueue import App
from logqueue.jobs.errors import InvalidDefinition, InvalidSetting
from logqueue.jobs.settings import AT_LEAST_ONCE, EXACTLY_ONCE, Settings
from logqueue.protocol.messages.list_transactions import ListTransactionsRequest
from tests.consumers.conftest import PATIENCE_S, Log, until, working


async def states_of_transactions(log: Log) -> dict[str, str]:
    """The transactional ids of this test's workers, with the states of their transactions."""
    client = LogClient(log.settings)
    await client.start()
    try:
        request = ListTransactionsRequest()
        answer = await client.ask_coordinator(TRANSACTION, log.name, request, lowest=0, highest=0)
    finally:
        await client.stop()
    prefix = f"{log.settings.topic_prefix}{log.name}-"
    return {
        found.transactional_id: found.transaction_state
        for found in answer.transaction_states
        if found.transactional_id.startswith(prefix)
    }


def test_no_transaction_is_open_while_handlers_run_or_nothing_is_to_be_written(log: Log) -> None:
    async def main() -> None:
        app = App(log.name, settings=log.settings, processing=EXACTLY_ONCE)
        app.queue("q", order="none", partitions=2)
        release = asyncio.Event()

        @app.job("long", queue="q")
        async def long() -> None:
            await release.wait()

        @app.job("short", queue="q")
        async def short() -> None:
            pass

        async def look() -> dict[str, str]:
            return await states_of_transactions(log)

        async with working(app):
            slow = await long.send()
            quick = await short.send()
            await quick.wait(timeout=PATIENCE_S)
            # Its status is there for readers of committed records, so its transaction is over; the long job runs.
            await until(lambda: log.states(slow.id), lambda states: states == ["running"])
            (state,) = (await until(look, lambda found: "CompleteCommit" in found.values())).values()
            assert state == "CompleteCommit"
            release.set()
            await slow.wait(timeout=PATIENCE_S)
        await until(look, lambda found: set(found.values()) == {"CompleteCommit"})  # its markers follow the answer

    asyncio.run(main())


def test_workers_of_both_ways_take_over_from_each_other(log: Log) -> None:
    async def main() -> None:
        ran: Counter[int] = Counter()
        total = 0
        for processing in (AT_LEAST_ONCE, EXACTLY_ONCE, AT_LEAST_ONCE, EXACTLY_ONCE):
            app = App(log.name, settings=replace(log.settings, processing=None), processing=processing)
            app.queue("q", order="none", partitions=2)

            @app.job("work", queue="q")
            async def work(*, n: int) -> None:
                ran[n] += 1

            async with working(app):
                await app.send_many(work.prepare(tenant=f"t{n}", n=n) for n in range(total, total + 50))
                total += 50
                await until(lambda: log.done(log.name, "q"), lambda done, total=total: done == total)
                metadata = [text for _, text in (await log.committed(log.name)).values()]
                notes = [read_notes(text, base=0) for text in metadata]
                assert any(note.owner is not None for note in notes) is (processing == EXACTLY_ONCE)
        statuses = [status for status in await log.statuses() if status.state is State.SUCCEEDED]
        assert Counter(status.id for status in statuses).most_common(1)[0][1] == 1
        assert len(statuses) == total
        assert set(ran.values()) == {1}
        left = [read_notes(text, base=0) for _, text in (await log.committed(log.name)).values()]
        assert not any(note.has_crashed for note in left), "stopped in good order"

    asyncio.run(main())


def test_the_way_of_processing_is_one_of_two_and_the_app_is_asked_before_the_settings() -> None:
    with pytest.raises(InvalidDefinition, match="at_least_once"):
        App("shop", processing="sometimes")
    with pytest.raises(InvalidSetting, match="LOGQUEUE_PROCESSING"):
        Settings(processing="sometimes")
    assert App("shop").processing is None
