"""When each of many names wants to be looked at, the earliest first: a heap whose stale entries are dropped lazily."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

_STALE_MIN = 1024


class Wakes:
    """At most one time (ms) per name. Setting costs a push, and what is due is found without a look at the others."""

    __slots__ = ("_heap", "_of")

    def __init__(self) -> None:
        self._of: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        """An entry is stale if its name has another time by now, or none."""

    def set(self, name: str, wake_ms: int | None) -> None:
        """The name wants to be looked at then; None: not at all."""
        if wake_ms is None:
            self._of.pop(name, None)
        elif self._of.get(name) != wake_ms:
            self._of[name] = wake_ms
            heappush(self._heap, (wake_ms, name))
            if len(self._heap) > _STALE_MIN + 2 * len(self._of):
                self._heap = [(wake_ms, name) for name, wake_ms in self._of.items()]
                heapify(self._heap)

    def first(self) -> int | None:
        """The earliest time; None if nobody wants to be looked at."""
        heap, of = self._heap, self._of
        while heap and of.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now_ms: int, limit: int) -> list[str]:
        """The names whose time has come, the earliest first, at most `limit` of them. They keep their times."""
        names: dict[str, int] = {}
        while len(names) < limit and (first_ms := self.first()) is not None and first_ms <= now_ms:
            wake_ms, name = heappop(self._heap)
            names[name] = wake_ms
        for name, wake_ms in names.items():
            heappush(self._heap, (wake_ms, name))
        return list(names)
