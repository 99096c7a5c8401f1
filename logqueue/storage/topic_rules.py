"""What a topic may be called, and how many partitions it may have: Kafka's rules."""

from __future__ import annotations

from collections.abc import Collection

from logqueue.storage.errors import InvalidPartitions, InvalidTopic, TopicExists
from logqueue.storage.names import MAX_TOPIC_NAME, is_topic_name

MAX_PARTITIONS = 100_000
"""Most partitions of one topic."""


def check_name(name: str) -> None:
    """Raise InvalidTopic unless Kafka allows a topic of this name."""
    if not is_topic_name(name):
        raise InvalidTopic(
            f"Topic name {shown(name)!r} is invalid: 1 to {MAX_TOPIC_NAME} of the characters a-z, A-Z, 0-9, '.', '_', "
            "'-', and neither '.' nor '..'"
        )


def check_free(name: str, taken: Collection[str]) -> None:
    """Raise TopicExists if a topic has the name, InvalidTopic if one has it but for dots and underscores.

    Kafka's metric names turn dots into underscores.
    """
    if name in taken:
        raise TopicExists(f"Topic '{name}' already exists.")
    if "." in name or "_" in name:
        twin = name.replace(".", "_")
        for other in taken:
            if other.replace(".", "_") == twin:
                raise InvalidTopic(f"Topic '{name}' collides with existing topic: {other}")


def check_partitions(count: int, *, more_than: int) -> None:
    """Raise InvalidPartitions unless a topic that has `more_than` (0: a new one) may get `count`."""
    if not more_than < count <= MAX_PARTITIONS:
        raise InvalidPartitions(
            f"Number of partitions must be between {more_than + 1} and {MAX_PARTITIONS}, not {count}."
        )


def shown(name: str) -> str:
    """A name as texts repeat it: cut short if no topic could have it."""
    return name if len(name) <= MAX_TOPIC_NAME else f"{name[:40]}..."
