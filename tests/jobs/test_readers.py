"""A reader that lets go of its partitions reads others later; one whose fetching has ended says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from logqueue.jobs.connection import new_reader, read_nothing, start_client, stop_client
from logqueue.jobs.settings import load_settings
from logqueue.jobs.steady_fetch import FetchingEnded
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create, produced

AT = TopicPartition("t", 0)


async def turns() -> None:
    """Let the fetcher come to where it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_reader_that_lets_go_at_once_is_assigned_again(tmp_path: Path) -> None:
    async def scenario(bootstrap: str) -> None:
        settings = load_settings(bootstrap=bootstrap)
        reader = await start_client(lambda: new_reader(settings), settings)
        try:
            for _ in range(3):
                await turns()
                reader.assign([AT])
                read_nothing(reader)  # before the fetcher has seen the assignment
                await turns()
                assert reader.assignment() == set()
            reader.assign([AT])
            reader.seek(AT, 0)
            found = await reader.getmany(timeout_ms=20_000)
            assert [record.value for record in found[AT]] == [b"there"]
        finally:
            await stop_client(reader)

    with EmbeddedBroker(tmp_path) as broker, Wire(broker.bootstrap) as wire:
        create(wire, "t")
        produced(wire, "t", batch(b"there"), acks=1)
        asyncio.run(scenario(broker.bootstrap))


def test_a_reader_whose_fetching_has_ended_is_an_error_and_not_silent_for_ever(tmp_path: Path) -> None:
    async def scenario(bootstrap: str) -> None:
        settings = load_settings(bootstrap=bootstrap)
        reader = await start_client(lambda: new_reader(settings), settings)
        try:
            await turns()
            reader.assign([AT])
            reader.unsubscribe()  # what `read_nothing` is for: aiokafka's fetcher ends
            await turns()
            reader.assign([AT])
            reader.seek(AT, 0)
            with pytest.raises(FetchingEnded):
                await reader.getmany(timeout_ms=20_000)
        finally:
            await stop_client(reader)
        assert not any(connection.connected() for connection in reader._client._conns.values())
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with EmbeddedBroker(tmp_path) as broker, Wire(broker.bootstrap) as wire:
        create(wire, "t")
        asyncio.run(scenario(broker.bootstrap))
