"""A connection's bounds: how large the head of a request may be, and how slowly a request may come.

Neither uvicorn nor its parser has any: a head without end fills memory, and whoever says nothing, or a byte now and
then, keeps a connection for ever (uvicorn's keep-alive timer ends with the first byte). A request that comes in one
piece, as nearly all do, never has a timer.
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from logqueue_api.rest.joined_writes import JoinedHttpProtocol
from logqueue_api.rest.problems import Problem, render

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of a request's head, its trailers, or what frames a piece of its body; refused with the read that goes beyond it."""
WINDOW_SECONDS: Final = 30.0
WINDOW_BYTES: Final = 30 * 1024
"""In each WINDOW_SECONDS a request that is on its way brings as much, or is complete."""


class BoundedHttpProtocol(JoinedHttpProtocol):
    """HTTP/1.1 that answers a head too large with 431, and hangs up on who says too little."""

    _bare = 0  # bytes since a request was complete, or brought a piece of its body
    _is_whole = False  # a request was completed by the last read
    _timer: asyncio.TimerHandle | None = None
    _came = 0  # bytes in this window
    _scope_before: object = None  # the request that was on its way when it began

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._bare += len(data)
        self._came += len(data)
        self._is_whole = False
        super().data_received(data)
        if self._is_whole:
            if self._timer is not None:
                self._unwatch()
        elif self._bare > MAX_HEAD_BYTES:
            self._refuse_head()
        elif self._timer is None and not self.transport.is_closing():
            self._watch()

    def on_body(self, body: bytes) -> None:
        self._bare = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._bare = 0
        self._is_whole = True
        super().on_message_complete()

    def _watch(self) -> None:
        self._came, self._scope_before = 0, self.scope
        self._timer = self.loop.call_later(WINDOW_SECONDS, self._look)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """A window is over."""
        cycle = self.cycle
        is_ours_to_wait = self.flow.read_paused or (
            cycle is not None and cycle.scope is self.scope and not cycle.more_body and not cycle.response_complete
        )
        has_just_begun = self.scope is not self._scope_before
        if is_ours_to_wait or has_just_begun or self._came >= WINDOW_BYTES:
            self._watch()
        else:
            self._timer = None
            self.transport.close()

    def _refuse_head(self) -> None:
        if self.cycle is None or self.cycle.response_complete:  # else this would stand in the midst of an answer
            detail = f"the head of the request is larger than {MAX_HEAD_BYTES:,} bytes"
            answer = render(Problem(431, detail, headers={"Connection": "close"}), instance=None)
            head = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
            self.transport.write(STATUS_LINE[431] + head + b"\r\n" + bytes(answer.body))
        self.transport.close()
