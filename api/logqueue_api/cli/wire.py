"""A connection to one node for requests that no client library has; what goes wrong ends the command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from logqueue.errors import ErrorCode, KafkaError
from logqueue.jobs import wire
from logqueue.jobs.settings import Settings
from logqueue.protocol.schema import Message
from logqueue_api.cli.exits import CommandError, ExitCode

HINT = "LOGQUEUE_SECURITY_PROTOCOL, LOGQUEUE_SASL_* and LOGQUEUE_SSL_* say how to connect"


class Wire(wire.Wire):
    """One connection, with the security settings of every client (`LOGQUEUE_SECURITY_PROTOCOL` and so on)."""

    def __init__(self, settings: Settings) -> None:
        """Connect and authenticate. Raises CommandError."""
        with _told():
            super().__init__(settings)

    def call(self, version: int, message: Message) -> Any:
        """Send a request and read its answer. Raises CommandError if the connection ends instead."""
        with _told():
            return super().call(version, message)


def failure(error: wire.WireError) -> CommandError:
    """What a command ends with."""
    code = ExitCode.FAILED if isinstance(error, wire.LoginRefused) else ExitCode.UNREACHABLE
    return CommandError(str(error), code=code, hint=HINT)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except wire.WireError as error:
        raise failure(error) from None


def check(answer: Any, what: str) -> None:
    """Raise CommandError if an answer or a part of one says that it failed."""
    if answer.error_code:
        code = ErrorCode(answer.error_code)
        text = KafkaError(answer.error_message or "", code=code)
        raise CommandError(f"{what}: {text}", code=ExitCode.FAILED)
