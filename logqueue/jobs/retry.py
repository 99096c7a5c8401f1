"""Whether and when a failed job runs again. Pure: no clock, no loop; randomness comes in."""

from __future__ import annotations

import random
from dataclasses import dataclass

from logqueue.jobs.durations import Duration, format_duration, parse_duration
from logqueue.jobs.errors import ErrorClass, InvalidDefinition, classify
from logqueue.jobs.http_errors import retry_after_s

MAX_ATTEMPTS = 10_000
MAX_CRASHES = 100

ErrorTypes = type[BaseException] | tuple[type[BaseException], ...]

_FINAL = frozenset({ErrorClass.PERMANENT, ErrorClass.UNDECODABLE, ErrorClass.UNKNOWN_TYPE})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDecision:
    """What becomes of a job after a failed attempt."""

    should_retry: bool
    delay_s: float  # wait before the next attempt; 0 where there is none
    error_class: ErrorClass
    reason: str  # for people: "attempt 2 of 6, next in 2s", "permanent", "attempts used (6)"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """A `Retry` with its durations in seconds: what is stored in `jobs.control` and computed with."""

    attempts: int
    first_s: float
    factor: float
    cap_s: float
    jitter: float
    on: tuple[type[BaseException], ...]
    never: tuple[type[BaseException], ...]
    crashes: int
    within_s: float | None = None  # from the first failure


class Retry:
    """How often, after which waits and for which errors a job is tried again.

    The wait before attempt n+1 is `first * factor**(n-1)`, at most `cap`, moved by up to `jitter` (a share of it)
    either way but never above `cap`. `attempts` counts the first one too: 1 means no retry. `on` narrows retries to
    these exceptions, `never` excludes some; permanent errors (`Permanent` and its subclasses) are never retried.
    `crashes` is how many worker processes may end while the job runs (segmentation fault, out of memory) before it
    goes to its dead-letter topic; such ends use up no attempt. `within` bounds the whole: no attempt begins later than
    this after the first failure.

        Retry(attempts=6, first="1s", cap="10m", never=(KeyError,))
    """

    __slots__ = ("policy",)

    def __init__(
        self,
        attempts: int = 5,
        *,
        first: Duration = "1s",
        factor: float = 2.0,
        cap: Duration = "10m",
        jitter: float = 0.1,
        on: ErrorTypes = (),
        never: ErrorTypes = (),
        crashes: int = 3,
        within: Duration | None = None,
    ) -> None:
        first_s, cap_s = parse_duration(first), parse_duration(cap)
        within_s = None if within is None else parse_duration(within)
        _require(within_s is None or within_s > 0, "within is more than 0")
        _require(isinstance(attempts, int) and 1 <= attempts <= MAX_ATTEMPTS, f"attempts is 1 to {MAX_ATTEMPTS}")
        _require(isinstance(crashes, int) and 1 <= crashes <= MAX_CRASHES, f"crashes is 1 to {MAX_CRASHES}")
        _require(1.0 <= factor <= 1000.0, "factor is 1 to 1000")
        _require(0.0 <= jitter <= 1.0, "jitter is a share of the wait, 0 to 1")
        _require(first_s <= cap_s, "first must not be longer than cap")
        self.policy = RetryPolicy(
            attempts=attempts,
            first_s=first_s,
            factor=float(factor),
            cap_s=cap_s,
            jitter=float(jitter),
            on=_error_types(on, "on"),
            never=_error_types(never, "never"),
            crashes=crashes,
            within_s=within_s,
        )

    @property
    def attempts(self) -> int:
        """Attempts in all, the first included."""
        return self.policy.attempts

    def delay_after(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait after attempt number `attempt` (1-based) failed."""
        assert attempt >= 1
        p = self.policy
        try:
            wait = min(p.cap_s, p.first_s * p.factor ** (attempt - 1))
        except OverflowError:
            wait = p.cap_s
        return min(p.cap_s, wait * (1.0 + p.jitter * rng.uniform(-1.0, 1.0)))

    def decide(
        self,
        attempt: int,
        error: BaseException,
        rng: random.Random,
        *,
        now_s: float = 0.0,
        first_failed_s: float | None = None,
    ) -> RetryDecision:
        """Whether attempt number `attempt` (1-based), ended by `error`, is followed by another, and when.

        `now_s` and `first_failed_s` (None: this is the first failure) are seconds since the epoch. An HTTP-like error
        that says when to come back (429 and 503 with Retry-After) is obeyed, beyond `cap` if need be.
        """
        error_class = classify(error)
        refusal = self._refusal(attempt, error, error_class)
        delay = 0.0 if refusal is not None else self._wait(attempt, error, rng, now_s)
        if refusal is None and self.policy.within_s is not None:
            since = now_s if first_failed_s is None else first_failed_s
            if now_s + delay > since + self.policy.within_s:
                refusal = f"time used (within {format_duration(self.policy.within_s)})"
        if refusal is not None:
            return RetryDecision(should_retry=False, delay_s=0.0, error_class=error_class, reason=refusal)
        reason = f"attempt {attempt} of {self.attempts}, next in {format_duration(delay)}"
        return RetryDecision(should_retry=True, delay_s=delay, error_class=error_class, reason=reason)

    def _wait(self, attempt: int, error: BaseException, rng: random.Random, now_s: float) -> float:
        delay = self.delay_after(attempt, rng)
        asked = retry_after_s(error, now_s=now_s)
        # Never before what was asked for; the jitter keeps those who were told the same from coming at once.
        return delay if asked is None else max(delay, asked * (1.0 + self.policy.jitter * rng.random()))

    def _refusal(self, attempt: int, error: BaseException, error_class: ErrorClass) -> str | None:
        p = self.policy
        if error_class in _FINAL:
            return str(error_class)
        if p.never and isinstance(error, p.never):
            return f"{type(error).__name__} is never retried"
        if p.on and not isinstance(error, p.on):
            return f"{type(error).__name__} is not among the errors to retry"
        if error_class is ErrorClass.CRASH and attempt >= p.crashes:
            return f"its process ended in attempt {attempt} (crashes={p.crashes})"
        if attempt >= p.attempts:
            return f"attempts used ({attempt})"
        return None

    def describe(self) -> dict[str, object]:
        """The policy as plain JSON values, for `jobs.control` and people."""
        p = self.policy
        return {
            "attempts": p.attempts,
            "first": format_duration(p.first_s),
            "factor": p.factor,
            "cap": format_duration(p.cap_s),
            "jitter": p.jitter,
            "on": [t.__name__ for t in p.on],
            "never": [t.__name__ for t in p.never],
            "crashes": p.crashes,
            "within": None if p.within_s is None else format_duration(p.within_s),
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Retry) and self.policy == other.policy

    def __hash__(self) -> int:
        return hash(self.policy)

    def __repr__(self) -> str:
        return "Retry(" + ", ".join(f"{k}={v!r}" for k, v in self.describe().items()) + ")"


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise InvalidDefinition(f"Retry: {rule}")


def _error_types(given: ErrorTypes, name: str) -> tuple[type[BaseException], ...]:
    types = given if isinstance(given, tuple) else (given,)
    _require(
        all(isinstance(t, type) and issubclass(t, BaseException) for t in types), f"{name} holds exception classes"
    )
    return types
