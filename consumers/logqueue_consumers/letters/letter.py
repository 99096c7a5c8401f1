"""One dead letter as a value, read from its record (ours or a foreign one); which are meant, which are open. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from logqueue.jobs.control import DEAD_LETTER, DISCARD, RETRY, read_value
from logqueue.jobs.errors import ErrorClass, InvalidHeader
from logqueue.jobs.headers import Failure, Origin, read_failure, read_job_headers, read_origin, salvage_job_headers
from logqueue.jobs.job_ids import id_of_position
from logqueue.jobs.partitioning import DEFAULT_TENANT
from logqueue_consumers.control.rounds import Round, edits_of
from logqueue_consumers.letters.foreign import ForeignLetter, read_foreign_letter

PREVIEW_BYTES = 2_000

OPEN, REPLAYED, DISCARDED = "open", "replayed", "discarded"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter. `partition` and `offset` name it within `topic`; times are milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    id: str
    type: str | None
    tenant: str
    queue: str
    group: str
    attempt: int
    replay: int
    died_ms: int
    first_failed_ms: int | None
    error_type: str | None
    error_message: str | None
    error_class: str | None
    origin_topic: str | None
    origin_partition: int | None
    origin_offset: int | None
    size: int
    """Bytes of the value."""
    preview: str
    """The value's beginning as text; bytes that are no text are escaped."""
    status: str
    """open, replayed or discarded."""
    system: str | None
    """Who wrote it, if not we: spring, connect, streams, share-group."""
    headers: dict[str, str]

    @property
    def is_open(self) -> bool:
        """Neither replayed nor discarded."""
        return self.status == OPEN

    @property
    def is_conflict(self) -> bool:
        """Another job has its id or its idempotency key."""
        return self.error_class == ErrorClass.CONFLICT

    @property
    def job_key(self) -> str:
        """What letters of one job have in common; those of conflicts stand alone."""
        return self.position if self.is_conflict else self.id

    @property
    def position(self) -> str:
        """`partition:offset`, as commands take it."""
        return f"{self.partition}:{self.offset}"

    @property
    def event_key(self) -> str:
        """Key of what becomes of it, in `jobs.control`."""
        return f"{DEAD_LETTER}{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which letters are meant; None and empty mean any. `since_ms` is inclusive, `until_ms` exclusive."""

    ids: frozenset[str] = frozenset()
    positions: frozenset[tuple[int, int]] = frozenset()
    type: str | None = None
    tenant: str | None = None
    error_type: str | None = None
    error_class: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    open_only: bool = True

    @property
    def is_named(self) -> bool:
        """Whether letters are meant by their names."""
        return bool(self.ids or self.positions)

    def matches(self, letter: DeadLetter) -> bool:
        """Whether a letter is meant, and open where that is asked for."""
        return (letter.is_open or not self.open_only) and self.means(letter)

    def means(self, letter: DeadLetter) -> bool:
        """Whether a letter is meant, open or closed."""
        return (
            (not self.is_named or letter.id in self.ids or (letter.partition, letter.offset) in self.positions)
            and self.type in (None, letter.type)
            and self.tenant in (None, letter.tenant)
            and self.error_type in (None, letter.error_type)
            and self.error_class in (None, letter.error_class)
            and (self.since_ms is None or letter.died_ms >= self.since_ms)
            and (self.until_ms is None or letter.died_ms < self.until_ms)
        )


class Deed(NamedTuple):
    """What an operator did with a letter, or with all of a job up to a replay."""

    status: str
    replay: int
    by: str
    at_ms: int


@dataclass(slots=True)
class Deeds:
    """What operators did with dead letters, folded from `jobs.control`."""

    letters: dict[str, Deed] = field(default_factory=dict)
    """By event key."""
    retried: dict[str, Deed] = field(default_factory=dict)
    """By job id: the replay as which it was sent round again; its letters up to the one before are closed."""
    discarded: dict[str, Deed] = field(default_factory=dict)
    """By job id: its letters up to this replay are closed."""
    rounds: dict[str, int] = field(default_factory=dict)
    """By job id: the last replay as which it was sent round, by a letter or otherwise."""

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Take in one record of the control topic."""
        text = key.decode("utf-8", "replace") if key else ""
        if text.startswith(DEAD_LETTER):
            self._note_letter(text, read_value(value))
        elif text.startswith(RETRY):
            job_id = text[len(RETRY) :]
            self._note(self.retried, job_id, REPLAYED, read_value(value))
            if job_id in self.retried:
                self._note_round(job_id, self.retried[job_id].replay)
        elif text.startswith(DISCARD):
            self._note(self.discarded, text[len(DISCARD) :], DISCARDED, read_value(value))

    def find(self, letter: DeadLetter) -> Deed | None:
        """What closed this letter; None for an open one."""
        if (own := self.letters.get(letter.event_key)) is not None or letter.is_conflict:
            return own
        retried, discarded = self.retried.get(letter.id), self.discarded.get(letter.id)
        if retried is not None and retried.replay > letter.replay:
            return retried
        return discarded if discarded is not None and discarded.replay >= letter.replay else None

    def next_replay(self, job_id: str, replay: int) -> int:
        """The number of the next round of a job of which this replay has died: no round had it before."""
        return max(self.rounds.get(job_id, 0), replay) + 1

    def _note_letter(self, key: str, found: Any) -> None:
        if found is None:
            self.letters.pop(key, None)
            return
        status = DISCARDED if str(found.get("event", "")).endswith(DISCARDED) else REPLAYED
        deed = self.letters[key] = _deed(status, found)
        if status == REPLAYED:
            self._note_round(str(found.get("as") or found.get("id")), deed.replay)

    def _note_round(self, job_id: str, replay: int) -> None:
        self.rounds[job_id] = max(replay, self.rounds.get(job_id, 0))

    @staticmethod
    def _note(table: dict[str, Deed], job_id: str, status: str, found: Any) -> None:
        if found is not None and isinstance(found.get("replay"), int):
            table[job_id] = _deed(status, found)
        else:
            table.pop(job_id, None)


def _deed(status: str, found: Any) -> Deed:
    replay, by, at = found.get("replay"), found.get("by"), found.get("at")
    return Deed(
        status=status,
        replay=replay if isinstance(replay, int) else 0,
        by=by if isinstance(by, str) else "?",
        at_ms=at if isinstance(at, int) else 0,
    )


def read_letter(record: Any, *, queue: str, group: str, deeds: Deeds) -> DeadLetter:
    """The letter of a record, whoever wrote it. Headers that cannot be read leave their fields empty."""
    headers = record.headers
    foreign = read_foreign_letter(headers)
    failure, origin = _failure(headers), _origin(headers)
    try:
        job = read_job_headers(headers)
    except InvalidHeader:
        job = salvage_job_headers(headers)
    at = first_position(record, origin, foreign, group=group)
    id_ = job.id or id_of_position(at.topic, at.partition, at.offset)
    value = record.value or b""
    is_known = origin is not None or (foreign is not None and foreign.topic is not None)
    letter = DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        id=id_,
        type=job.type,
        tenant=(record.key or DEFAULT_TENANT.encode()).decode("utf-8", "replace"),
        queue=queue,
        group=group,
        attempt=job.attempt if foreign is None or foreign.attempts is None else foreign.attempts,
        replay=job.replay,
        died_ms=record.timestamp,
        first_failed_ms=failure.first_failed_ms if failure else None,
        error_type=failure.type if failure else foreign.error_type if foreign else None,
        error_message=failure.message if failure else foreign.error_message if foreign else None,
        error_class=failure.error_class if failure else None,
        origin_topic=at.topic if is_known else None,
        origin_partition=at.partition if is_known else None,
        origin_offset=at.offset if is_known else None,
        size=len(value),
        preview=value[:PREVIEW_BYTES].decode("utf-8", "backslashreplace"),
        status=OPEN,
        system=foreign.system if foreign is not None and failure is None else None,
        headers={name: (content or b"").decode("utf-8", "backslashreplace") for name, content in headers},
    )
    deed = deeds.find(letter)
    return letter if deed is None else msgspec.structs.replace(letter, status=deed.status)


def round_of(letter: DeadLetter, record: Any, *, replay: int, type_: str | None = None) -> Round:
    """The next round of a dead job, as its group runs it, with this replay number; `type_` where the letter names none.

    A conflict (an id or a key that came before with other arguments) is another job than the first of that name, whose
    result it must not replace: it goes round under the name of its place in the log.
    """
    at = first_position(record, _origin(record.headers), read_foreign_letter(record.headers), group=letter.group)
    job = Round(
        id=letter.id,
        type=letter.type,
        queue=letter.queue,
        group=letter.group,
        tenant=letter.tenant,
        replay=replay,
        key=record.key,
        value=record.value,
        headers=[(name, value) for name, value in record.headers if value is not None],
        origin=at,
        edited=edits_of(record.headers),
    )
    if letter.is_conflict:
        job = job.with_id(id_of_position(at.topic, at.partition, at.offset))
    return job if type_ is None else job.with_type(type_)


def first_position(record: Any, origin: Origin | None, foreign: ForeignLetter | None, *, group: str) -> Origin:
    """Where the job began: as our headers say, as a foreign system's say, else where the letter lies."""
    if origin is not None:
        return origin
    if foreign is not None and foreign.topic is not None and foreign.partition is not None:
        return Origin(foreign.topic, foreign.partition, foreign.offset or 0, foreign.group or group)
    return Origin(record.topic, record.partition, record.offset, group)


def _failure(headers: Iterable[tuple[str, bytes]]) -> Failure | None:
    try:
        return read_failure(headers)
    except InvalidHeader:
        return None


def _origin(headers: Iterable[tuple[str, bytes]]) -> Origin | None:
    try:
        return read_origin(headers)
    except InvalidHeader:
        return None
