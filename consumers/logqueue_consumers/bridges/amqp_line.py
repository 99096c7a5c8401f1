"""A connection to a broker of AMQP 0-9-1 (aio-pika): opened, watched, ended. Shell."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from logqueue.errors import LogqueueError

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection

CONNECT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0

log = structlog.get_logger(__name__)


class BrokerGone(LogqueueError):
    """The AMQP broker does not answer, or ended the connection; a bridge tries again."""


class NoSuchPlace(LogqueueError):
    """The URL, the login, the queue or the exchange is wrong: trying again does not help."""


def trouble() -> tuple[type[BaseException], ...]:
    """What aio-pika raises when a connection or a channel ends; asked without it too, when `open` was refused."""
    ends = (OSError, TimeoutError, asyncio.InvalidStateError)
    try:
        from aio_pika import exceptions
    except ImportError:
        return ends
    return (exceptions.AMQPError, exceptions.ChannelInvalidStateError, *ends)


def check_client() -> None:
    """NoSuchPlace where aio-pika is not installed."""
    try:
        import aio_pika  # noqa: F401
    except ImportError:
        raise NoSuchPlace("RabbitMQ needs aio-pika: pip install 'logqueue-kafka[rabbitmq]'") from None


class AmqpLine:
    """One connection with one channel, on which the broker confirms what it is given."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: AbstractConnection | None = None

    async def open(self, *, prefetch: int = 0) -> AbstractChannel:
        """Connect. Raises BrokerGone or NoSuchPlace."""
        check_client()
        import aio_pika

        exceptions = aio_pika.exceptions
        try:
            self._connection = await aio_pika.connect(self._url, timeout=CONNECT_TIMEOUT_S)
            channel = await self._connection.channel(publisher_confirms=True)
            if prefetch:
                await channel.set_qos(prefetch_count=prefetch)
        except (exceptions.AuthenticationError, exceptions.ProbableAuthenticationError) as error:
            raise NoSuchPlace(f"the AMQP broker does not let us in: {error}") from None
        except ValueError as error:
            raise NoSuchPlace(f"no AMQP URL: {error}") from None
        except trouble() as error:
            raise BrokerGone(f"no AMQP broker answers: {_told(error)}") from None
        return channel

    async def find(self, coroutine: Any, what: str) -> Any:
        """A queue or an exchange that must be there; NoSuchPlace where it is not."""
        import aio_pika

        try:
            return await coroutine
        except (aio_pika.exceptions.ChannelNotFoundEntity, aio_pika.exceptions.ChannelClosed) as error:
            raise NoSuchPlace(f"{what}: {_told(error)}") from None
        except trouble() as error:
            raise BrokerGone(f"{what}: {_told(error)}") from None

    async def close(self) -> None:
        """End the connection; what was not acknowledged goes back to its queue."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await connection.close()
        except trouble() as error:
            log.debug("connection cut", error=_told(error))


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__
