"""One broker for all tests of a module, a connection and a topic for each."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, create_topic


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(fsync=False) as running:
        yield running


@pytest.fixture
def wire(broker: EmbeddedBroker) -> Iterator[Wire]:
    with Wire(broker.bootstrap) as connection:
        yield connection


@pytest.fixture
def topic(wire: Wire, request: pytest.FixtureRequest) -> str:
    """A topic of one partition, named after the test."""
    name = re.sub(r"\W+", "-", request.node.name)
    create_topic(wire, name)
    return name
