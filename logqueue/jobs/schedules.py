"""Cron schedules as values, and their records in partition 0 of `jobs.schedules`. No IO.

| key                  | written by       | value                                                              |
|----------------------|------------------|--------------------------------------------------------------------|
| `declared/<app>`     | workers at start | all schedules that the app's code declares                         |
| `schedule/<name>`    | REST, CLI        | a schedule that stands instead of a declared one; or `removed`     |
| `pause/<name>`       | REST, CLI        | who paused it, and when                                            |
| `run/<name>/<id>`    | REST, CLI        | run it once now; taken back when that is done                      |
| `ended/<name>/<job>` | workers          | a run has ended (where `overlap` asks); taken back when it is noted |
| `state/<name>`       | the keeper       | when it runs next, what runs, ...                                  |

What code declares comes back with the next worker start; what an operator sets stands above it until it is removed.
Schedules are few, so one owner has them all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from logqueue.jobs.durations import Duration, InvalidDuration, format_duration, parse_duration
from logqueue.jobs.errors import InvalidDefinition
from logqueue.jobs.recurrence import Recurrence, recurrence
from logqueue.jobs.times import format_time

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
MISSED = ("skip", "latest", "all")
OVERLAP = ("allow", "skip", "buffer")
DEFAULT_CAP = 100
MAX_CAP = 1000
PARTITION = 0

DECLARED, SCHEDULE, PAUSE, RUN, ENDED, STATE = "declared/", "schedule/", "pause/", "run/", "ended/", "state/"
CRON_PREFIXES = (DECLARED, SCHEDULE, PAUSE, RUN, ENDED, STATE)


class Schedule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=False):
    """A job that recurs. Made by `new_schedule`, which checks it.

    `missed` says what becomes of runs that nobody was there for: "skip" them, run the "latest", or "all" up to `cap`
    (the last ones). `overlap` says what happens when the run before has not ended: "allow" both, "skip" the new one, or
    "buffer" one until it has. `jitter_ms` moves each run by up to that much, the same for every owner.
    """

    name: str
    type: str
    queue: str
    arguments: dict[str, Any] = {}
    app: str = ""
    tenant: str = "default"
    cron: str | None = None
    every_ms: int | None = None
    timezone: str = "UTC"
    missed: str = "latest"
    cap: int = DEFAULT_CAP
    overlap: str = "allow"
    jitter_ms: int = 0
    by: str | None = None
    at: int | None = None

    @property
    def recurrence(self) -> Recurrence:
        """Its rhythm."""
        return Recurrence(cron=self.cron, every_ms=self.every_ms, timezone=self.timezone)

    def delay_of(self, scheduled_ms: int) -> int:
        """How much later than scheduled a run begins: deterministic, so that any owner comes to the same."""
        if self.jitter_ms == 0:
            return 0
        digest = hashlib.blake2b(f"{self.name}@{scheduled_ms}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % (self.jitter_ms + 1)

    def job_id(self, scheduled_ms: int) -> str:
        """The id of a run's job: the same whoever makes it."""
        return f"{self.name}@{format_time(scheduled_ms)}"

    def describe(self) -> dict[str, Any]:
        """As people see it."""
        return {
            "name": self.name,
            "type": self.type,
            "queue": self.queue,
            "tenant": self.tenant,
            "arguments": self.arguments,
            "cron": self.cron,
            "every": self.recurrence.every,
            "timezone": self.timezone,
            "missed": self.missed,
            "cap": self.cap,
            "overlap": self.overlap,
            "jitter": format_duration(self.jitter_ms / 1000) if self.jitter_ms else None,
            "app": self.app or None,
        }


class Override(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an operator has set: a schedule, or that there is none."""

    schedule: Schedule | None = None
    removed: bool = False
    by: str | None = None
    at: int | None = None


class Mark(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody asked for something (a pause, a run), or a run ended as `state`."""

    by: str | None = None
    at: int = 0
    state: str | None = None


class State(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the keeper knows of a schedule. Times in ms; `running` are job ids with the time they were made."""

    basis: str = ""
    rhythm: str = ""
    next: int | None = None
    last: int | None = None
    last_id: str | None = None
    running: dict[str, int] = {}
    buffered: int | None = None
    fired: int = 0
    skipped: int = 0


encode = msgspec.json.Encoder().encode
_declared_decoder = msgspec.json.Decoder(dict[str, Schedule])
_override_decoder = msgspec.json.Decoder(Override)
_mark_decoder = msgspec.json.Decoder(Mark)
_state_decoder = msgspec.json.Decoder(State)


def decode_declared(value: bytes) -> dict[str, Schedule]:
    """The schedules of an app, by name; ValueError or RecursionError for anything else."""
    return _declared_decoder.decode(value)


def decode_override(value: bytes) -> Override:
    """What an operator has set; ValueError or RecursionError for anything else."""
    return _override_decoder.decode(value)


def decode_mark(value: bytes) -> Mark:
    """A mark; ValueError or RecursionError for anything else."""
    return _mark_decoder.decode(value)


def decode_state(value: bytes) -> State:
    """A keeper's state; ValueError or RecursionError for anything else."""
    return _state_decoder.decode(value)


def basis_of(schedule: Schedule, *, is_paused: bool) -> str:
    """Tells whether a state was made for this schedule; who set it and when does not count."""
    plain = msgspec.structs.replace(schedule, by=None, at=None)
    return hashlib.blake2b(encode((plain, is_paused)), digest_size=8).hexdigest()


def new_schedule(
    name: str,
    *,
    type: str,  # noqa: A002 - CloudEvents' word
    queue: str,
    arguments: Mapping[str, Any],
    tenant: str = "default",
    app: str = "",
    cron: str | None = None,
    every: Duration | None = None,
    timezone: str = "UTC",
    missed: str = "latest",
    cap: int = DEFAULT_CAP,
    overlap: str = "allow",
    jitter: Duration = 0,
    by: str | None = None,
    at_ms: int | None = None,
) -> Schedule:
    """A checked schedule; InvalidDefinition says what is wrong with it. The arguments are the caller's to check."""
    where = f"Schedule {check_name(name)!r}"
    if missed not in MISSED:
        raise InvalidDefinition(f"{where}: missed={missed!r} is not one of {', '.join(MISSED)}")
    if overlap not in OVERLAP:
        raise InvalidDefinition(f"{where}: overlap={overlap!r} is not one of {', '.join(OVERLAP)}")
    if isinstance(cap, bool) or not isinstance(cap, int) or not 1 <= cap <= MAX_CAP:
        raise InvalidDefinition(f"{where}: cap={cap!r} is not a number from 1 to {MAX_CAP}")
    try:
        rhythm = recurrence(cron=cron, every=every, timezone=timezone)
        jitter_ms = round(parse_duration(jitter) * 1000)
    except (InvalidDefinition, InvalidDuration) as error:
        raise InvalidDefinition(f"{where}: {error}") from None
    return Schedule(
        name=name,
        type=type,
        queue=queue,
        arguments=dict(arguments),
        tenant=tenant,
        app=app,
        cron=rhythm.cron,
        every_ms=rhythm.every_ms,
        timezone=timezone,
        missed=missed,
        cap=cap,
        overlap=overlap,
        jitter_ms=jitter_ms,
        by=by,
        at=at_ms,
    )


def check_name(name: str) -> str:
    """A schedule's name itself, or InvalidDefinition."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidDefinition(
            f"Schedule name {name!r} is not of the form [A-Za-z0-9][A-Za-z0-9._-]* with at most 100 characters"
        )
    return name


def ended_key(name: str, job_id: str) -> bytes:
    """The key under which a worker tells that a run has ended."""
    return f"{ENDED}{name}/{job_id}".encode()
