"""What lets a broker's process answer within 100 ms of its start. For a process of its own, before its other imports.

A program that embeds a broker keeps its collector and its asyncio as they are.
"""

from __future__ import annotations

import gc
import sys

SELDOM = (10_000, 20, 50)
"""Requests leave no cycles behind, and a connection eight small objects: the collector finds next to nothing. By
Python's own thresholds it stops the loop every few hundred requests to look at all that is new, and now and then for
milliseconds to look at all there is."""


def begin() -> None:
    """Collect no garbage until `end`, and import asyncio without ssl.

    Imports make no garbage to speak of, so looking for some is lost time. asyncio wants ssl for transports that the
    broker never opens: its TLS, where there is a listener with TLS, is `network/tls.py` on plain sockets. Without a
    listener with TLS libssl is not even loaded.
    """
    if "asyncio" in sys.modules or "ssl" in sys.modules:
        return  # somebody else's process
    gc.disable()
    sys.modules["ssl"] = None  # type: ignore[assignment]  # documented: the import raises ModuleNotFoundError
    try:
        import asyncio  # noqa: F401
    finally:
        del sys.modules["ssl"]


def end() -> None:
    """Collect garbage from now on, seldom, and never look at what is there already: it stays until the end."""
    gc.freeze()
    gc.set_threshold(*SELDOM)
    gc.enable()
