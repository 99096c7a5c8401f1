"""Who works: heartbeats folded, and what follows for jobs that are shown as running. No IO, no clock.

`lost` and `stuck` are conclusions, not states: nothing is written when a worker is gone. Its jobs run again because
their offsets were never committed; until then a job is `lost` if whoever ran it is gone, and `stuck` if it runs past
its time although its worker lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from logqueue_consumers.heartbeats.beat import INTERVAL_S, LEASE_INTERVALS, Heartbeat, decode

LOST, STUCK = "lost", "stuck"

MAX_WORKERS = 10_000
"""Workers remembered; the ones that were silent for longest are forgotten first."""
STUCK_MARGIN_MS = 10_000
"""How long past its time a job may run before it is stuck: cancelling and telling take a moment."""
LEASE_MS = int(INTERVAL_S * LEASE_INTERVALS * 1000)
"""How long a worker may run jobs before it is heard of."""
FORGOTTEN_MS = 3_600_000
"""Workers that were silent for this long are not listed any more."""


class Roster:
    """The last heartbeat of each worker."""

    def __init__(self) -> None:
        self._beats: dict[str, Heartbeat] = {}
        self.unreadable = 0

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """A record of `jobs.workers`; what cannot be read is counted and passed over."""
        if key is None:
            self.unreadable += 1
            return
        name = key.decode("utf-8", "replace")
        if value is None:
            self._beats.pop(name, None)
            return
        try:
            beat = decode(value)
        except (ValueError, RecursionError):
            self.unreadable += 1
            return
        self._beats.pop(name, None)
        self._beats[name] = beat  # the last ones heard of are last
        if len(self._beats) > MAX_WORKERS:
            del self._beats[next(iter(self._beats))]

    def clear(self) -> None:
        """Forget everything: the topic is read anew."""
        self._beats.clear()

    def get(self, worker: str) -> Heartbeat | None:
        """The last heartbeat of a worker."""
        return self._beats.get(worker)

    def workers(self, now_ms: int) -> list[Heartbeat]:
        """Workers heard of within the last hour, by group and name; not the earlier lives of one that is back."""
        back = {(beat.group, beat.instance_id) for beat in self.living(now_ms) if beat.instance_id is not None}
        known = (
            beat
            for beat in self._beats.values()
            if beat.is_alive(now_ms)
            or (now_ms - beat.at <= FORGOTTEN_MS and (beat.group, beat.instance_id) not in back)
        )
        return sorted(known, key=lambda beat: (beat.group, beat.host, beat.pid))

    def living(self, now_ms: int) -> Iterator[Heartbeat]:
        """Workers that are taken to live."""
        return (beat for beat in self._beats.values() if beat.is_alive(now_ms))

    def condition(
        self, *, worker: str | None, started_us: int | None, timeout_s: float | None, now_ms: int
    ) -> str | None:
        """What is wrong with a job that is shown as running: `lost`, `stuck` or None.

        `timeout_s` is its type's time limit, None if that is not known.
        """
        beat = self._beats.get(worker) if worker is not None else None
        if beat is None:
            # Its first heartbeat may be on its way here still.
            is_new = worker is not None and started_us is not None and now_ms - started_us // 1000 <= LEASE_MS
            return None if is_new else LOST
        if not beat.is_alive(now_ms):
            return LOST
        if started_us is not None and started_us // 1000 < beat.started_at:
            return LOST  # its worker ended, and another has its name (process 1 of a container, started again)
        if started_us is None or timeout_s is None:
            return None
        is_late = now_ms > started_us // 1000 + timeout_s * 1000 + STUCK_MARGIN_MS
        return STUCK if is_late else None

    def problems(self, now_ms: int) -> Iterable[tuple[str, str]]:
        """Living workers that get on with nothing though there is work, and why."""
        return [(beat.worker, beat.problem) for beat in self.living(now_ms) if beat.problem is not None]
