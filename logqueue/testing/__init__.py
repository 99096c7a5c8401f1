"""For your own tests: a real Kafka-protocol broker that starts in a blink, and a pytest fixture of it.

    from logqueue.testing import EmbeddedBroker

    with EmbeddedBroker() as broker:
        consumer = KafkaConsumer("orders", bootstrap_servers=broker.bootstrap)

With pytest nothing needs importing: ask for the fixture `logqueue_broker`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logqueue.testing.embedded import EmbeddedBroker

__all__ = ["EmbeddedBroker"]


def __getattr__(name: str) -> object:
    # Lazy, because pytest imports this package in every project that has it installed.
    if name == "EmbeddedBroker":
        from logqueue.testing.embedded import EmbeddedBroker

        return EmbeddedBroker
    raise AttributeError(f"module 'logqueue.testing' has no attribute {name!r}")
