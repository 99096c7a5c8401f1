"""Limits as they are declared: how many jobs may run at once and how many may start in a time. Knows no worker."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from logqueue.jobs.durations import Duration, InvalidDuration, format_duration, parse_duration
from logqueue.jobs.errors import InvalidDefinition

ARGUMENT = "argument:"
MAX_RUNNING = 1_000_000
MAX_RATE = 1_000_000
MAX_PERIOD_S = 24 * 3600.0
MAX_LIMITS = 16
"""Of one queue or one job."""
_RATE = re.compile(r"\s*([1-9][0-9]{0,6})\s*/\s*([0-9]*)\s*(ms|s|m|h|d)\s*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many starts in so many seconds."""

    count: int
    period_s: float

    @property
    def per_second(self) -> float:
        return self.count / self.period_s

    def __str__(self) -> str:
        period = format_duration(self.period_s)
        return f"{self.count}/{period.removeprefix('1') if period in ('1s', '1m', '1h') else period}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """At most `running` jobs at once, and at most `rate` starts, for each value of `by`.

    `by` is "queue" (all its jobs), "tenant", "type", or "argument:<name>" (an argument's value). `rate` is text such as
    "100/s", "30/m", "5/10s"; `burst` is how many may start at once after a pause (a token bucket; default: what the
    rate allows in one second, at least 1).

    A tenant has one owner, so "tenant" is exact whatever number of workers there is. The others are exact within
    each partition's owner and divided by the number of the queue's partitions that a worker owns: a worker with a
    quarter of them enforces a quarter of the limit (at least 1).
    """

    by: str
    running: int | None = None
    rate: str | None = None
    burst: int | None = None

    def __post_init__(self) -> None:
        if self.by not in ("queue", "tenant", "type") and not is_argument(self.by):
            raise InvalidDefinition(f'Limit(by={self.by!r}): by is "queue", "tenant", "type" or "argument:<name>"')
        if self.running is None and self.rate is None:
            raise InvalidDefinition(f"Limit(by={self.by!r}) limits nothing: give running=, rate= or both")
        if self.running is not None:
            _check_whole(self.running, "running", MAX_RUNNING)
        if self.burst is not None:
            _check_whole(self.burst, "burst", MAX_RATE)
            if self.rate is None:
                raise InvalidDefinition(f"Limit(by={self.by!r}): a burst belongs to a rate")
        if self.rate is not None:
            parse_rate(self.rate)

    @property
    def argument(self) -> str | None:
        """The name of the argument whose values are limited."""
        return self.by[len(ARGUMENT) :] if is_argument(self.by) else None

    def describe(self) -> dict[str, Any]:
        """Plain JSON values, as given."""
        given = {"by": self.by, "running": self.running, "rate": self.rate, "burst": self.burst}
        return {name: value for name, value in given.items() if value is not None}


def is_argument(by: str) -> bool:
    """Whether a limit is by an argument's value."""
    return isinstance(by, str) and by.startswith(ARGUMENT) and by[len(ARGUMENT) :].isidentifier()


def parse_rate(text: str) -> Rate:
    """The rate of a text such as "100/s"; InvalidDefinition says what it should look like."""
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidDefinition(f'rate={text!r} is not a rate such as "100/s", "30/m" or "5/10s"')
    count, number, unit = match.groups()
    period_s = _seconds(f"{number or '1'}{unit}")
    if not 0 < period_s <= MAX_PERIOD_S or int(count) > MAX_RATE:
        raise InvalidDefinition(f"rate={text!r} is above {MAX_RATE} or its period above {MAX_PERIOD_S / 3600:g} h")
    return Rate(count=int(count), period_s=period_s)


def read_limit(described: Mapping[str, Any]) -> Limit:
    """The limit of a description (see `Limit.describe`); InvalidDefinition for anything else."""
    unknown = set(described) - {"by", "running", "rate", "burst"}
    if unknown or "by" not in described:
        raise InvalidDefinition(f"{dict(described)!r} is no limit: it has by, and running, rate, burst")
    return Limit(**described)


def check_limits(limits: Iterable[Limit]) -> tuple[Limit, ...]:
    """The limits themselves, one per `by`; InvalidDefinition says which cannot be."""
    if isinstance(limits, (str, Limit)) or not isinstance(limits, Iterable):
        raise InvalidDefinition(f"limits={limits!r} is not a list of limits: [Limit(...)]")
    checked = tuple(limits)
    for limit in checked:
        if not isinstance(limit, Limit):
            raise InvalidDefinition(f"limits: {limit!r} is not a Limit(...)")
    if len({limit.by for limit in checked}) < len(checked):
        raise InvalidDefinition("limits: each `by` stands once, with running and rate together")
    if len(checked) > MAX_LIMITS:
        raise InvalidDefinition(f"limits: {len(checked)} are more than {MAX_LIMITS}")
    return checked


def check_arguments(limits: Iterable[Limit], known: Sequence[str], where: str) -> None:
    """InvalidDefinition for a limit by something that is no argument of the job."""
    for limit in limits:
        if limit.argument is not None and limit.argument not in known:
            raise InvalidDefinition(f"{where}: Limit(by={limit.by!r}): its arguments are {', '.join(known) or 'none'}")


def _check_whole(number: object, name: str, maximum: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= maximum:
        raise InvalidDefinition(f"{name}={number!r} is not a whole number from 1 to {maximum:,}")


def _seconds(text: Duration) -> float:
    try:
        return parse_duration(text)
    except InvalidDuration as error:
        raise InvalidDefinition(str(error)) from None
