"""The shell of the embedded log: sockets, tasks, start and stop order; one handler file per API.

`Broker` is loaded when it is first asked for (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

__all__ = ["Broker"]


def __getattr__(name: str) -> object:
    if name == "Broker":
        from logqueue.broker.broker import Broker

        return Broker
    raise AttributeError(f"module 'logqueue.broker' has no attribute {name!r}")
