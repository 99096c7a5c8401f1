"""Which jobs are the same: idempotency keys and unique jobs as values. Pure; the partition's owner holds the index.

An idempotency key belongs to one submission: the job's id is made from tenant, queue, type and key, so whoever sends
the same key again names the same job. Uniqueness belongs to the job's definition: of two jobs whose chosen arguments
are equal only one is kept, as in Oban and River. Both are exact within a tenant, because one owner sees all its jobs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from logqueue.errors import LogqueueError
from logqueue.ids import JobId
from logqueue.jobs.durations import Duration, parse_duration
from logqueue.jobs.errors import ErrorClass, InvalidArguments, InvalidDefinition, Permanent
from logqueue.jobs.headers import MAX_KEY_CHARS
from logqueue.jobs.payload import argument_values

KEY_WINDOW_S: Final = 24 * 3600.0
"""How long after its job has ended a key stays taken."""

REQUIRED_STATES: Final = frozenset({"scheduled", "queued", "running", "retrying"})
"""A job passes through these on its way: without one of them two equal jobs could both get by (Oban's lint)."""
LASTING_STATES: Final = frozenset({"succeeded", "dead", "cancelled", "expired"})
ON_CONFLICT: Final = ("skip", "replace", "existing")

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode


class KeyConflict(Permanent, LogqueueError):
    """An idempotency key, or an id, that came again with other arguments. The first job is untouched.

    The later record is a dead letter of class `conflict`; `JobHandle.wait` and `status` raise this for its sender.
    """

    error_class = ErrorClass.CONFLICT


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """Of jobs that are equal only one is kept: `@app.job(..., unique=Unique(fields=["customer"], window="10m"))`.

    `fields` are the arguments that count (None: all of them; empty: none, one job per tenant). `window` counts from the
    creation of the job that holds the place; without one it is held until that job ends. `states` are those in which a
    job holds its place: always until it ends, within the window also after that as listed (default: succeeded).

    `on_conflict`: "skip" ends the later job as cancelled, with `details.duplicate_of`. "existing" does the same, and
    who waits for it is given the state of the job that holds the place. "replace" lets the later job take the place:
    the earlier one is cancelled where it has not begun; one that runs already is left to end, and the later runs too.
    """

    fields: Sequence[str] | None = None
    window: Duration | None = None
    states: Sequence[str] | None = None
    on_conflict: str = "skip"

    def __post_init__(self) -> None:
        if isinstance(self.fields, str):
            raise InvalidDefinition(f"Unique: fields is a list of argument names, not {self.fields!r}")
        states = set(self.states or REQUIRED_STATES)
        if unknown := states - REQUIRED_STATES - LASTING_STATES:
            known = ", ".join(sorted(REQUIRED_STATES | LASTING_STATES))
            raise InvalidDefinition(f"Unique: unknown state {sorted(unknown)[0]!r}; known are {known}")
        if missing := REQUIRED_STATES - states:
            raise InvalidDefinition(
                f"Unique: states leave out {', '.join(sorted(missing))}: two equal jobs could both get by in that gap"
            )
        if self.window is None and states & LASTING_STATES:
            raise InvalidDefinition("Unique: a place that is held after its job has ended needs a window")
        if self.on_conflict not in ON_CONFLICT:
            raise InvalidDefinition(f"Unique: on_conflict {self.on_conflict!r} is not one of {', '.join(ON_CONFLICT)}")
        if self.window is not None and parse_duration(self.window) <= 0:
            raise InvalidDefinition("Unique: window must be longer than 0")

    @property
    def window_ms(self) -> int | None:
        """The window in milliseconds."""
        return None if self.window is None else round(parse_duration(self.window) * 1000)

    @property
    def lasting(self) -> frozenset[str]:
        """The states after its end in which a job holds its place: none without a window."""
        if self.window is None:
            return frozenset()
        return LASTING_STATES & set(self.states) if self.states is not None else frozenset({"succeeded"})

    def check_fields(self, known: Sequence[str], where: str) -> None:
        """InvalidDefinition for a field that is no argument of the job."""
        for name in self.fields or ():
            if name not in known:
                raise InvalidDefinition(f"{where}: unique field {name!r} is none of its arguments {', '.join(known)}")

    def describe(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "fields": None if self.fields is None else list(self.fields),
            "window_s": None if self.window is None else parse_duration(self.window),
            "states": sorted(REQUIRED_STATES | self.lasting),
            "on_conflict": self.on_conflict,
        }

    def place(self, type_: str, tenant: str, arguments: Any) -> str:
        """The name of the place that a job with these arguments takes."""
        values = argument_values(arguments)
        if self.fields is not None:
            values = {name: values[name] for name in sorted(self.fields)}
        return "u/" + _digest(b"\0".join((type_.encode(), tenant.encode(), _encode(values))))


def check_key(key: object) -> str:
    """An idempotency key itself, or InvalidArguments."""
    if not isinstance(key, str) or not key or len(key) > MAX_KEY_CHARS or not key.isprintable():
        raise InvalidArguments(
            f"An idempotency key is text of 1 to {MAX_KEY_CHARS} printable characters", field="idempotency_key"
        )
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InvalidArguments("The idempotency key has no UTF-8 form", field="idempotency_key") from None
    return key


def keyed_job_id(*, tenant: str, queue: str, type_: str, key: str) -> JobId:
    """The id of the job with this key: a UUIDv8 (RFC 9562, section 5.8) of SHA-256 over what names it."""
    text = b"\0".join(part.encode() for part in ("logqueue-key", tenant, queue, type_, key))
    digits = hashlib.sha256(text).hexdigest()
    variant = "89ab"[int(digits[15], 16) & 3]
    return JobId(f"{digits[:8]}-{digits[8:12]}-8{digits[12:15]}-{variant}{digits[16:19]}-{digits[19:31]}")


def key_place(tenant: str, type_: str, key: str) -> str:
    """The name of the place that a key takes in the index of its queue."""
    return "k/" + _digest(b"\0".join((type_.encode(), tenant.encode(), key.encode())))


def argument_digest(value: bytes | None) -> str:
    """Equal for equal arguments: JSON texts are compared by their meaning, everything else byte by byte."""
    try:
        return _digest(b"j" + _encode(_decode(value or b"{}")))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _digest(b"b" + (value or b""))


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:32]
