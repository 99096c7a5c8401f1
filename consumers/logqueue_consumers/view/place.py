"""A place in a list of jobs, newest first, and its text form: the cursor. Knows no SQL and no HTTP."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from logqueue.errors import LogqueueError
from logqueue_consumers.view.job import State

MAX_CURSOR_LENGTH: Final = 4096
"""An id has 512 characters at most, of four bytes each, and base64 needs a third more."""


class InvalidCursor(LogqueueError):
    """A cursor that this list did not hand out."""


class Place(NamedTuple):
    """After this job, going from the newest to the oldest: smaller `sort`, or the same and a larger id."""

    sort: int
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a list holds. None or empty is "any"; `shadow` names a replay group, "" is the live run.

    `since_ms` (inclusive) and `until_ms` (exclusive) bound the time of creation.
    """

    states: tuple[State, ...] = ()
    type: str | None = None
    tenant: str | None = None
    queue: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    shadow: str = ""

    def fingerprint(self) -> bytes:
        """Four bytes that tell this filter from another, so that a cursor is not used with the wrong list."""
        values = (sorted(self.states), self.type, self.tenant, self.queue, self.since_ms, self.until_ms, self.shadow)
        return hashlib.blake2b(msgspec.msgpack.encode(values), digest_size=4).digest()


def encode_cursor(place: Place, job_filter: JobFilter) -> str:
    """The opaque text by which a client asks for the page after `place`."""
    packed = msgspec.msgpack.encode((job_filter.fingerprint(), place.sort, place.id))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode_cursor(text: str, job_filter: JobFilter) -> Place:
    """The place in a cursor; raises InvalidCursor if it is damaged or belongs to a list with another filter."""
    if len(text) > MAX_CURSOR_LENGTH:
        raise InvalidCursor(f"the cursor is longer than {MAX_CURSOR_LENGTH} characters")
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        fingerprint, sort, id_ = msgspec.msgpack.decode(packed, type=tuple[bytes, int, str])
    except (binascii.Error, ValueError, msgspec.DecodeError, UnicodeEncodeError):
        raise InvalidCursor("not a cursor; use `next_cursor` of the page before, unchanged") from None
    if not 0 <= sort < 2**63:
        raise InvalidCursor("not a cursor; use `next_cursor` of the page before, unchanged")
    if fingerprint != job_filter.fingerprint():
        raise InvalidCursor("the cursor belongs to a list with other filters; keep the filters while paging")
    return Place(sort, id_)
