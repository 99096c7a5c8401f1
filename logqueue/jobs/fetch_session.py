"""The client's half of an incremental fetch session (KIP-227): what to ask of a broker that remembers. No IO.

A session belongs to one consumer and one node. What the consumer wants to read is compared with what the broker was
asked for last: named are partitions that are new or are to be read from elsewhere, and those that are not wanted now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

NO_SESSION: Final = 0
_INITIAL, _FIRST, _LAST = 0, 1, 2**31 - 1

Wanted = tuple[int, int, int]  # partition, offset, most bytes
Told = tuple[int, int]  # high watermark, last stable offset


class Asked(NamedTuple):
    """What one request says."""

    session_id: int
    epoch: int
    topics: Sequence[tuple[str, Sequence[Wanted]]]
    forgotten: Sequence[tuple[str, Sequence[int]]]


class FetchSession:
    """What a broker was asked for, and what it has told of each partition."""

    __slots__ = ("_epoch", "_for", "_held", "_id", "_is_answered", "told")

    def __init__(self) -> None:
        self._id = NO_SESSION
        self._epoch = _INITIAL
        self._is_answered = True
        self._for: object = None
        self._held: dict[str, dict[int, Wanted]] = {}
        self.told: dict[tuple[str, int], Told] = {}

    @property
    def is_open(self) -> bool:
        """Whether the broker remembers what it was asked for last."""
        return self._is_answered and self._epoch != _INITIAL

    def go_on(self, news: Sequence[tuple[str, Sequence[Wanted]]]) -> Asked:
        """The next request of a session that is open, where nothing but `news` has changed since the last one."""
        self._is_answered = False
        for topic, changed in news:
            self._held[topic].update((each[0], each) for each in changed)
        return Asked(self._id, self._epoch, news, ())

    def ask(self, topics: Sequence[tuple[str, Sequence[Wanted]]], owner: object) -> Asked:
        """The next request, for all that is wanted now.

        A session begins anew where the last request has no answer (nobody knows whether the broker had it), and where
        `owner` is another than before: who took the answers so far is not there any more.
        """
        if not self._is_answered or owner is not self._for:
            self._epoch = _INITIAL
            self._for = owner
        self._is_answered = False
        if self._epoch == _INITIAL:
            self._held = {topic: {each[0]: each for each in partitions} for topic, partitions in topics}
            self.told.clear()
            return Asked(self._id, _INITIAL, topics, ())
        changed = []
        count = 0
        for topic, partitions in topics:
            count += len(partitions)
            held = self._held.setdefault(topic, {})
            if news := [each for each in partitions if held.get(each[0]) != each]:
                held.update((each[0], each) for each in news)
                changed.append((topic, news))
        forgotten = self._forget(topics) if count != sum(map(len, self._held.values())) else ()
        return Asked(self._id, self._epoch, changed, forgotten)

    def _forget(self, topics: Iterable[tuple[str, Sequence[Wanted]]]) -> list[tuple[str, list[int]]]:
        wanted = {topic: {each[0] for each in partitions} for topic, partitions in topics}
        forgotten = []
        for topic, held in self._held.items():
            kept = wanted.get(topic, ())
            if gone := [number for number in held if number not in kept]:
                for number in gone:
                    del held[number]
                    self.told.pop((topic, number), None)
                forgotten.append((topic, gone))
        return forgotten

    def answered(self, error: int, session_id: int) -> None:
        """The broker has answered the last request."""
        self._is_answered = True
        if error:
            self._epoch = _INITIAL  # what is left of the session is closed with the next request
        elif session_id == NO_SESSION:
            self._id, self._epoch = NO_SESSION, _INITIAL
        elif session_id != self._id or self._epoch == _INITIAL:
            self._id, self._epoch = session_id, _FIRST
        else:
            self._epoch = _FIRST if self._epoch == _LAST else self._epoch + 1
