"""Whether the loop waits for a round's fsyncs itself, instead of handing them to threads. No clock, no loop.

Two changes of thread and a wake-up of the loop cost half as much as a quick fsync. But whoever comes meanwhile waits
for the disk, whether he asked for it or not: so only for one file, where the disk is quick, a turn has brought nobody
but those who wait for the round, and those who came during the last such fsync were no others either.
"""

from __future__ import annotations

SLOW_SECONDS = 0.001
"""A round that took longer was a mistake."""

MAX_FAILURES = 8
"""After n mistakes in a row, threads have 2 to the power of n rounds; n stops here."""


class InLoop:
    """What has been seen of the rounds that the loop itself has waited for."""

    __slots__ = ("_failures", "_pause", "is_tried")

    def __init__(self) -> None:
        self.is_tried = False  # the next turn begins with the answers of such a round
        self._failures = 0
        self._pause = 0  # rounds that threads have, whatever they look like

    def allows(self, *, files: int, is_quick: bool, events: int, waiting: int) -> bool:
        """Whether the loop may wait for a round of `waiting` requests and `files` fsyncs, after a turn with `events`.

        `is_quick` says what an fsync is expected to be.
        """
        if files != 1 or not is_quick or events > waiting:
            return False
        if self._pause:
            self._pause -= 1
            return False
        self.is_tried = True
        return True

    def end_turn(self, *, events: int, waiting: int) -> None:
        """The turn after such a round had `events`, `waiting` requests wait again: were there others, they waited."""
        self.is_tried = False
        if events > waiting:
            self._fail()
        else:
            self._failures = 0

    def after_round(self, seconds: float) -> None:
        """The loop has waited for so long."""
        if seconds > SLOW_SECONDS:
            self.is_tried = False
            self._fail()

    def _fail(self) -> None:
        self._failures = min(self._failures + 1, MAX_FAILURES)
        self._pause = 2**self._failures
