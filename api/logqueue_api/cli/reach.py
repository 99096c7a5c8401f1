"""Whether anything answers at a log's addresses, and lets us in. Imports no client library."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logqueue.jobs.settings import Settings

CONNECT_SECONDS = 3.0
RETRY_SECONDS = 0.25


async def why_unreachable(bootstrap: str, *, attempts: int) -> str | None:
    """None as soon as one of `host:port[,host:port...]` takes a connection, else why the last one did not."""
    reason = ""
    for attempt in range(attempts):
        if attempt:
            await asyncio.sleep(RETRY_SECONDS)
        for server in bootstrap.split(","):
            host, _, port = server.strip().rpartition(":")
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            except (OSError, TimeoutError) as error:
                reason = _reason(error)
                continue
            writer.close()
            return None
    return reason


async def check_entry(settings: Settings) -> None:
    """Speak TLS and log in as clients will have to, and ask for something; CommandError says what is refused."""
    from logqueue.jobs.wire import why_no_entry
    from logqueue_api.cli.wire import failure

    error = await asyncio.to_thread(why_no_entry, settings)
    if error is not None:
        raise failure(error)


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"no answer within {CONNECT_SECONDS:g} s"
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
