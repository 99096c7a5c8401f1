"""How long things wait that could not be written: a second, then twice as long each time, up to a minute. No IO."""

from __future__ import annotations

from typing import Final

FIRST_MS: Final = 1_000
LONGEST_MS: Final = 60_000
MAX_KEYS: Final = 10_000
"""Things that are remembered; one that is forgotten begins with the first pause again."""


class Pauses:
    """The pauses of one partition's things."""

    def __init__(self) -> None:
        self._known: dict[object, tuple[int, int]] = {}
        """The pause that each was given last, and when that ends."""

    def __contains__(self, key: object) -> bool:
        return key in self._known

    def forget(self, key: object) -> None:
        """It was written, or it is another thing by now."""
        self._known.pop(key, None)

    def until(self, key: object, now_ms: int) -> int:
        """When to try this again. What has been well for a while begins anew."""
        known = self._known.pop(key, None)
        pause_ms = FIRST_MS
        if known is not None and now_ms - known[1] <= LONGEST_MS:
            pause_ms = min(LONGEST_MS, known[0] * 2)
        while len(self._known) >= MAX_KEYS:
            del self._known[next(iter(self._known))]
        self._known[key] = pause_ms, now_ms + pause_ms
        return now_ms + pause_ms
