"""Whether anything answers at a log's addresses: plain connections, a few times. Imports no client library."""

from __future__ import annotations

import asyncio
import os

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


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"no answer within {CONNECT_SECONDS:g} s"
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
