"""Making a script that shows a difference as short as it can be, within a bound."""

from __future__ import annotations

from collections.abc import Callable

from tests.fidelity.steps import Step

Fails = Callable[[list[Step]], bool]


def shrink(script: list[Step], fails: Fails, *, tries: int) -> list[Step]:
    """Leave out steps, large pieces first, as long as the rest still fails; at most `tries` runs."""
    piece = max(1, len(script) // 2)
    while piece and tries > 0:
        position = 0
        while position < len(script) and tries > 0:
            shorter = script[:position] + script[position + piece :]
            tries -= 1
            if shorter and fails(shorter):
                script = shorter
            else:
                position += piece
        piece //= 2
    return script
