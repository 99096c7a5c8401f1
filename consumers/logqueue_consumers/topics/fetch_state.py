"""How far aiokafka's consumer is in a partition, told at once: asked itself, it waits while it looks that up."""

from __future__ import annotations

from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition


class FetchState(NamedTuple):
    """`position` is the offset it reads on from, behind markers of transactions (KIP-98) too; `end` is where committed
    records ended in its last fetch. None while it does not know."""

    position: int | None
    end: int | None


UNKNOWN = FetchState(None, None)


def fetch_state(consumer: AIOKafkaConsumer | None, tp: TopicPartition) -> FetchState:
    """The state of an assigned partition; UNKNOWN for any other, or without a consumer."""
    if consumer is None or not consumer._subscription.is_assigned(tp):
        return UNKNOWN
    state = consumer._subscription.subscription.assignment.state_value(tp)
    # Behind the last stable offset lie open transactions: not readable yet, so nobody lags behind on them.
    end = state.highwater if state.lso is None or state.lso < 0 else state.lso
    return FetchState(state.position if state.has_valid_position else None, end)
