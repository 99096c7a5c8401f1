"""For your own tests: a real Kafka-protocol broker that starts in a blink, and a pytest fixture of it.

    from logqueue.testing import EmbeddedBroker

    with EmbeddedBroker() as broker:
        consumer = KafkaConsumer("orders", bootstrap_servers=broker.bootstrap)

With pytest nothing needs importing: ask for the fixture `logqueue_broker`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logqueue_consumers.lab.job_lab import JobLab, LabUnrest
    from logqueue_consumers.lab.log_reader import LabJob

    from logqueue.testing.embedded import EmbeddedBroker

__all__ = ["EmbeddedBroker", "JobLab", "LabJob", "LabUnrest"]

HOMES = {
    "EmbeddedBroker": "logqueue.testing.embedded",
    "JobLab": "logqueue_consumers.lab.job_lab",
    "LabJob": "logqueue_consumers.lab.log_reader",
    "LabUnrest": "logqueue_consumers.lab.job_lab",
}


def __getattr__(name: str) -> object:
    # Lazy, because pytest imports this package in every project that has it installed; and by name, because the lab
    # stands on the workers, which stand on this package.
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module 'logqueue.testing' has no attribute {name!r}")
