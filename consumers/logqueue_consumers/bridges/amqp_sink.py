"""An AMQP exchange as the other side of a bridge: every message confirmed by the broker. Shell."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import structlog

from logqueue_consumers.bridges.amqp_line import AmqpLine, BrokerGone, trouble
from logqueue_consumers.bridges.amqp_messages import left_out, properties_of, short_text
from logqueue_consumers.bridges.telling import Told

if TYPE_CHECKING:
    from aio_pika.abc import AbstractExchange

CONFIRM_TIMEOUT_S = 30.0
SHOWN_NAMES = 5

log = structlog.get_logger(__name__)


class ExchangeSink:
    """An exchange, which must exist; the routing key is the message's type unless one is given.

    Messages are persistent. Those that no queue is bound for are dropped by the broker, as exchanges do: bind first.
    """

    def __init__(self, url: str, *, exchange: str, routing_key: str | None = None) -> None:
        self._line = AmqpLine(url)
        self._name = exchange
        self._routing_key = routing_key
        self._exchange: AbstractExchange | None = None

    async def open(self) -> None:
        """Connect. Raises BrokerGone, NoSuchPlace."""
        try:
            channel = await self._line.open()
            self._exchange = await self._line.find(channel.get_exchange(self._name), f"exchange {self._name!r}")
        except BaseException:
            await self._line.close()
            raise

    async def tell(self, messages: Sequence[Told]) -> None:
        """Publish one after the other, each confirmed before the next: their order is kept."""
        import aio_pika

        exchange = self._exchange
        assert exchange is not None, "open() comes first"
        try:
            for told in messages:
                if large := left_out(told):
                    log.warning("headers too large for AMQP left out", id=told.id[:100], headers=_named(large))
                message = aio_pika.Message(
                    told.body,
                    app_id="logqueue",
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    **properties_of(told),
                )
                key = short_text(self._routing_key if self._routing_key is not None else told.type)
                async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                    await exchange.publish(message, key, mandatory=False)
        except trouble() as error:
            raise BrokerGone(f"not confirmed: {str(error) or type(error).__name__}") from None

    async def close(self) -> None:
        """End the connection."""
        self._exchange = None
        await self._line.close()


def _named(headers: Collection[str]) -> str:
    shown = ", ".join(name[:50] for name in sorted(headers)[:SHOWN_NAMES])
    return shown if len(headers) <= SHOWN_NAMES else f"{shown} and {len(headers) - SHOWN_NAMES} more"
