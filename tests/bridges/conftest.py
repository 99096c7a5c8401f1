"""Databases and brokers on the other side of the bridges, and the log on ours."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from logqueue_consumers.bridges import amqp_in, outbox_relay, teller

from logqueue.jobs.settings import Settings
from tests.bridges.outbox_world import OutboxWorld
from tests.bridges.postgres import PostgresMissing, postgres
from tests.bridges.rabbitmq import RabbitMissing, rabbitmq
from tests.conftest import Engine, missing
from tests.consumers.conftest import Log
from tests.engines.shared import SharedServers


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
def postgres_url(servers: SharedServers) -> str:
    """A real PostgreSQL, started when it is first asked for."""
    try:
        return servers.address("postgres", postgres)
    except PostgresMissing as error:
        missing(str(error))
        raise


@pytest.fixture(params=["postgres", "sqlite"])
def outbox_world(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> OutboxWorld:
    """An empty outbox in each database."""
    is_sqlite = request.param == "sqlite"
    url: str = f"sqlite:///{tmp_path / 'shop.db'}" if is_sqlite else request.getfixturevalue("postgres_url")
    world = OutboxWorld(dialect=request.param, url=url, name=f"outbox_{prefix}")
    asyncio.run(world.create())
    return world


@pytest.fixture(scope="session")
def amqp_url(servers: SharedServers) -> str:
    """A real RabbitMQ, started when it is first asked for."""
    try:
        return servers.address("rabbitmq", rabbitmq)
    except RabbitMissing as error:
        missing(str(error))
        raise
