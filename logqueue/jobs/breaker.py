"""Circuit breakers: a dependency that fails again and again is left alone for a while. Pure: the time comes in.

| state     | a job may begin              | goes to                                                  |
|-----------|------------------------------|----------------------------------------------------------|
| closed    | always                       | open, when `failures` attempts failed within `window`    |
| open      | never                        | half-open, `open_for` later                              |
| half-open | while fewer than `half_open` | closed, when that many succeeded; open, when one failed  |

Source: M. Nygard, "Release It!", "Circuit Breaker". Failures are those that a later attempt may mend (transient,
timeout): a job with wrong arguments says nothing about the dependency.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from enum import StrEnum

from logqueue.jobs.durations import Duration, format_duration, parse_duration
from logqueue.jobs.errors import InvalidDefinition

MAX_FAILURES = 10_000
MAX_NAME_CHARS = 100


class BreakerState(StrEnum):
    """Whether work goes on."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """When work on a dependency pauses: `@app.job("pay", breaker=Breaker("bank", failures=5, window="1m"))`.

    Jobs of all types that name the same breaker share it (and must say the same of it); without a name it is the
    type's own. `failures` failed attempts
    within `window` open it: no job of these types begins for `open_for`, and none uses up an attempt. Then at most
    `half_open` jobs try; when as many succeed, it closes. Every worker process has its own: one that sees no failures
    goes on.
    """

    __slots__ = ("failures", "half_open", "name", "open_for_s", "window_s")

    def __init__(
        self,
        name: str | None = None,
        *,
        failures: int = 5,
        window: Duration = "1m",
        open_for: Duration = "30s",
        half_open: int = 1,
    ) -> None:
        is_name = name is None or (isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARS)
        _require(is_name, f"a name of 1 to {MAX_NAME_CHARS} characters")
        _require(isinstance(failures, int) and 1 <= failures <= MAX_FAILURES, f"failures is 1 to {MAX_FAILURES}")
        _require(isinstance(half_open, int) and 1 <= half_open <= MAX_FAILURES, f"half_open is 1 to {MAX_FAILURES}")
        self.name = name
        self.failures = failures
        self.half_open = half_open
        self.window_s = parse_duration(window)
        self.open_for_s = parse_duration(open_for)
        _require(self.window_s > 0 and self.open_for_s > 0, "window and open_for are more than 0")

    def named(self, job_type: str) -> Breaker:
        """Itself, or under the name of the job type that has it to itself."""
        if self.name is not None:
            return self
        return Breaker(
            job_type[:MAX_NAME_CHARS],
            failures=self.failures,
            window=self.window_s,
            open_for=self.open_for_s,
            half_open=self.half_open,
        )

    def describe(self) -> dict[str, object]:
        """Plain JSON values, for `jobs.control` and people."""
        return {
            "name": self.name,
            "failures": self.failures,
            "window": format_duration(self.window_s),
            "open_for": format_duration(self.open_for_s),
            "half_open": self.half_open,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Breaker) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash((self.name, self.failures, self.half_open, self.window_s, self.open_for_s))

    def __repr__(self) -> str:
        return "Breaker(" + ", ".join(f"{key}={value!r}" for key, value in self.describe().items()) + ")"


class Circuit:
    """One breaker at work. Times are seconds of one monotonic clock."""

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker
        self._failed_at: deque[float] = deque()
        self._open_until_s: float | None = None
        self._trials: dict[Hashable, float] = {}
        """Jobs that try while half-open, and when each was let in."""
        self._successes = 0

    def state(self, now_s: float) -> BreakerState:
        """The state at this time."""
        if self._open_until_s is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now_s < self._open_until_s else BreakerState.HALF_OPEN

    def may_begin(self, job: Hashable, now_s: float) -> bool:
        """Whether a job may begin; while half-open, one that may holds a place among those that try."""
        match self.state(now_s):
            case BreakerState.CLOSED:
                return True
            case BreakerState.OPEN:
                return False
            case BreakerState.HALF_OPEN:
                return self._try(job, now_s)

    def succeeded(self, job: Hashable, now_s: float) -> bool:
        """A job ended well; true when that closed the breaker."""
        if self.state(now_s) is not BreakerState.HALF_OPEN or self._trials.pop(job, None) is None:
            return False
        self._successes += 1
        if self._successes < self.breaker.half_open:
            return False
        self._open_until_s = None
        self._clear()
        return True

    def failed(self, job: Hashable, now_s: float) -> bool:
        """An attempt failed in a way that may be the dependency's; true when that opened the breaker."""
        match self.state(now_s):
            case BreakerState.OPEN:
                return False  # it began before
            case BreakerState.HALF_OPEN:
                if job not in self._trials:
                    return False
            case BreakerState.CLOSED:
                failed_at = self._failed_at
                failed_at.append(now_s)
                while failed_at[0] <= now_s - self.breaker.window_s:
                    failed_at.popleft()
                if len(failed_at) < self.breaker.failures:
                    return False
        self._open_until_s = now_s + self.breaker.open_for_s
        self._clear()
        return True

    def gave_up(self, job: Hashable) -> None:
        """A job ended in a way that says nothing of the dependency: its place is free."""
        self._trials.pop(job, None)

    def _try(self, job: Hashable, now_s: float) -> bool:
        if job in self._trials:
            return True
        # One that was let in and never told of again (its partition was lost) must not hold its place for ever.
        stale_s = now_s - self.breaker.open_for_s
        for gone in [key for key, since_s in self._trials.items() if since_s <= stale_s]:
            del self._trials[gone]
        if len(self._trials) + self._successes >= self.breaker.half_open:
            return False
        self._trials[job] = now_s
        return True

    def _clear(self) -> None:
        self._failed_at.clear()
        self._trials.clear()
        self._successes = 0


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise InvalidDefinition(f"Breaker: {rule}")
