"""Who asks for a change, as it is kept with every operator command."""

from __future__ import annotations

from typing import Final

from fastapi import Request

from logqueue.jobs.control import MAX_BY_CHARS

ACTOR_HEADER: Final = "X-Logqueue-Actor"


def actor_of(request: Request) -> str:
    """What the client says of itself in `X-Logqueue-Actor`, else its address. A claim, not a proof."""
    said = "".join(char for char in request.headers.get(ACTOR_HEADER, "") if char.isprintable()).strip()
    if said:
        return said[:MAX_BY_CHARS]
    return request.client.host if request.client is not None else "unknown"
