"""Databases and brokers on the other side of the bridges, and the log on ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from logqueue_consumers.bridges import amqp_in, outbox_relay, teller

from logqueue.jobs.settings import Settings
from tests.bridges.outbox_world import OutboxWorld
from tests.bridges.postgres import PostgresMissing, postgres
from tests.bridges.rabbitmq import RabbitMissing, rabbitmq
from tests.conftest import Engine, missing
from tests.consumers.conftest import Log


@pytest.fixture
def log(engine: Engine, prefix: str) -> Log:
    """An engine with topics and a group of this test's own."""
    return Log(Settings(bootstrap=engine.bootstrap, topic_prefix=f"{prefix}."), prefix)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bridges that look and stop at once."""
    monkeypatch.setattr(amqp_in, "WAKE_S", 0.05)
    monkeypatch.setattr(teller, "POLL_MS", 50)
    monkeypatch.setattr(outbox_relay, "STANDBY_S", 0.05)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL, started when it is first asked for."""
    try:
        server = postgres()
        url = server.__enter__()
    except PostgresMissing as error:
        missing(str(error))
        raise
    yield url
    server.__exit__(None, None, None)


@pytest.fixture(params=["postgres", "sqlite"])
def outbox_world(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> OutboxWorld:
    """An empty outbox in each database."""
    is_sqlite = request.param == "sqlite"
    url: str = f"sqlite:///{tmp_path / 'shop.db'}" if is_sqlite else request.getfixturevalue("postgres_url")
    world = OutboxWorld(dialect=request.param, url=url, name=f"outbox_{prefix}")
    asyncio.run(world.create())
    return world


@pytest.fixture(scope="session")
def amqp_url() -> Iterator[str]:
    """A real RabbitMQ, started when it is first asked for."""
    try:
        node = rabbitmq()
        url = node.__enter__()
    except RabbitMissing as error:
        missing(str(error))
        raise
    yield url
    node.__exit__(None, None, None)
