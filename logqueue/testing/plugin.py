"""The pytest plugin of the package: the fixture `logqueue_broker`. Imports nothing heavy until it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from logqueue.testing.embedded import EmbeddedBroker


@pytest.fixture
def logqueue_broker() -> Iterator[EmbeddedBroker]:
    """A fresh Kafka-protocol broker for one test; `logqueue_broker.bootstrap` is the address for any client.

    It keeps everything in a temporary folder and does not wait for the disk.
    """
    from logqueue.testing.embedded import EmbeddedBroker

    with EmbeddedBroker(fsync=False) as broker:
        yield broker
