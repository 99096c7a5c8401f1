"""A client that stops keeps no cancellation to itself, and is waited for within bounds."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from logqueue.jobs.connection import begun, stop_client
from logqueue.testing import EmbeddedBroker
from tests.loops import in_loop

SOON_S, LONG_S = 0.05, 60.0


class Connections:
    """What a client has open."""

    def __init__(self) -> None:
        self.are_closed = False

    async def close(self) -> None:
        self.are_closed = True


class Client:
    """Stops as aiokafka's clients do: it ends a task of its own, and takes every cancellation for that task's."""

    def __init__(self, *, slowness_s: float = 0.0, error: Exception | None = None) -> None:
        self._slowness_s = slowness_s
        self._error = error
        self._client = Connections()
        self.stops = asyncio.Event()
        self.has_stopped = False

    async def stop(self) -> None:
        self.stops.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(self._slowness_s)
        if self._error is not None:
            raise self._error
        self.has_stopped = True
        await self._client.close()


@pytest.mark.parametrize("error", [None, KafkaError("gone")])
@in_loop
async def test_a_timeout_that_comes_while_a_client_stops_ends_what_it_is_for(error: Exception | None) -> None:
    client = Client(slowness_s=4 * SOON_S, error=error)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON_S):
            await stop_client(client, timeout_s=LONG_S)
            await asyncio.sleep(LONG_S)  # never reached
    assert client.has_stopped is (error is None), "it has stopped all the same"


@in_loop
async def test_a_client_that_does_not_stop_is_given_up() -> None:
    client = Client(slowness_s=LONG_S)
    async with asyncio.timeout(LONG_S / 2):
        await stop_client(client, timeout_s=SOON_S)
    assert client._client.are_closed


@in_loop
async def test_an_error_while_a_client_stops_is_logged_if_it_is_kafkas_and_raised_if_not() -> None:
    client = Client(error=KafkaError("gone"))
    await stop_client(client)
    assert client._client.are_closed
    with pytest.raises(ZeroDivisionError):
        await stop_client(Client(error=ZeroDivisionError()))


def test_a_start_that_is_cut_short_leaves_no_connection_open(
    logqueue_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[AIOKafkaConnection] = []
    send = AIOKafkaConnection.send

    def hold(connection: AIOKafkaConnection, request: object, *args: object, **kwargs: object) -> object:
        if not isinstance(request, MetadataRequest):
            return send(connection, request, *args, **kwargs)
        asked.append(connection)
        starting.cancel()
        return asyncio.get_running_loop().create_future()

    monkeypatch.setattr(AIOKafkaConnection, "send", hold)
    starting: asyncio.Task[None]

    async def start() -> None:
        nonlocal starting
        client = AIOKafkaClient(bootstrap_servers=logqueue_broker.bootstrap)
        starting = asyncio.create_task(begun(client.bootstrap()))
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert [connection.connected() for connection in asked] == [False]
        await client.close()

    asyncio.run(start())
