"""Headers of job records: what makes a Kafka record a job. Bytes <-> values; knows no client.

Names follow the CloudEvents Kafka binding in binary mode (`ce_*`, `content-type`), W3C Trace Context
(`traceparent`), and `job-*` for what neither has. All values are UTF-8 text. Kafka allows null values: a null header of
ours says nothing, as if it were not there, and does not go on with the record.

| header | meaning |
|---|---|
| `ce_specversion` | "1.0" |
| `ce_id` | the job's id; absent: `<topic>-<partition>-<offset>` of the first record |
| `ce_type` | the job's type; absent: the queue's default type |
| `ce_source`, `ce_time` | who made the job, and when (RFC 3339) |
| `content-type` | `application/json` (also if absent) or `application/avro` |
| `traceparent` | trace context, handed on as it came |
| `job-attempt` | attempt that this record is for, 1-based; absent: 1 |
| `job-not-before`, `job-expires` | RFC 3339; not run before / not run after |
| `job-replay` | how often an operator replayed the job; absent: 0 |
| `job-idempotency-key` | names the job within tenant, queue and type: the same key is the same job |
| `job-priority` | a priority class of the queue; absent: that of the topic, or the queue's default |
| `job-tenant` | the tenant, where the key is one of several that its jobs are spread over; absent: the key |
| `job-workflow` | `<workflow id>/<node>/<group>`: the job is a node of a workflow that this group runs |
| `job-workflow-results` | JSON object: what the nodes before it returned |
| `job-schedule`, `job-scheduled-at` | the schedule that made the job, and the time (RFC 3339) of this run of it |
| `job-holds` | the schedule that is to be told when the job has ended, as its next run may wait for that |
| `job-error-type`, `-message`, `-class` | the failure that brought a retry, dead-letter or parked record here |
| `job-first-failed-at` | RFC 3339; set by the first failure, then kept |
| `job-details` | JSON object: progress, log lines, ... that later statuses tell again |
| `job-origin-topic`, `-partition`, `-offset`, `-group` | where the job's first record is; set once, then kept |
| `job-moved-from` | the record that this one replaces, and its job's state: for who takes over from a killed worker |
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from functools import lru_cache

import msgspec

from logqueue.ids import JobId
from logqueue.jobs.errors import InvalidHeader
from logqueue.jobs.job_ids import MAX_ID_CHARS
from logqueue.jobs.times import MAX_MS, format_time, parse_time

Headers = Sequence[tuple[str, bytes]]

MAX_TYPE_CHARS = 255
MAX_KEY_CHARS = 255
MAX_WORKFLOW_CHARS = 400
MAX_ATTEMPT = 2**31 - 1
MAX_MESSAGE_BYTES = 2000  # of an error's text; the whole trace belongs into logs
MAX_ERROR_TYPE_BYTES = 200

CE_SPECVERSION = "ce_specversion"
CE_ID = "ce_id"
CE_TYPE = "ce_type"
CE_SOURCE = "ce_source"
CE_TIME = "ce_time"
CONTENT_TYPE = "content-type"
TRACEPARENT = "traceparent"
ATTEMPT = "job-attempt"
NOT_BEFORE = "job-not-before"
EXPIRES = "job-expires"
REPLAY = "job-replay"
IDEMPOTENCY_KEY = "job-idempotency-key"
PRIORITY = "job-priority"
TENANT = "job-tenant"
WORKFLOW = "job-workflow"
WORKFLOW_RESULTS = "job-workflow-results"
SCHEDULE = "job-schedule"
SCHEDULED_AT = "job-scheduled-at"
HOLDS = "job-holds"
ERROR_TYPE = "job-error-type"
ERROR_MESSAGE = "job-error-message"
ERROR_CLASS = "job-error-class"
FIRST_FAILED_AT = "job-first-failed-at"
DETAILS = "job-details"
ORIGIN_TOPIC = "job-origin-topic"
ORIGIN_PARTITION = "job-origin-partition"
ORIGIN_OFFSET = "job-origin-offset"
ORIGIN_GROUP = "job-origin-group"
MOVED_FROM = "job-moved-from"

OWN_HEADERS = frozenset(
    {CE_SPECVERSION, CE_ID, CE_TYPE, CE_SOURCE, CE_TIME, CONTENT_TYPE, ATTEMPT, NOT_BEFORE, EXPIRES, REPLAY}
    | {IDEMPOTENCY_KEY, PRIORITY, TENANT, WORKFLOW, WORKFLOW_RESULTS}
    | {SCHEDULE, SCHEDULED_AT, HOLDS}
    | {ERROR_TYPE, ERROR_MESSAGE, ERROR_CLASS, FIRST_FAILED_AT, DETAILS}
    | {ORIGIN_TOPIC, ORIGIN_PARTITION, ORIGIN_OFFSET, ORIGIN_GROUP, MOVED_FROM}
)
_FAILURE_HEADERS = frozenset({ERROR_TYPE, ERROR_MESSAGE, ERROR_CLASS})


class JobHeaders(msgspec.Struct, frozen=True, gc=False):
    """What a worker needs of a record's headers before it runs the job."""

    id: JobId | None = None
    type: str | None = None
    attempt: int = 1
    replay: int = 0
    not_before_ms: int | None = None
    expires_ms: int | None = None
    content_type: str | None = None
    created_ms: int | None = None
    idempotency_key: str | None = None
    workflow: str | None = None
    priority: str | None = None
    tenant: str | None = None
    holds: str | None = None


NO_HEADERS = JobHeaders()
"""Those of a record that has none."""


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where a job's first record is; `group` is the one whose failure moved it."""

    topic: str
    partition: int
    offset: int
    group: str


class Failure(msgspec.Struct, frozen=True, gc=False):
    """Why a record is where it is: the error's type, text and class, and when the first failure was."""

    type: str
    message: str
    error_class: str
    first_failed_ms: int | None = None


def read_job_headers(headers: Iterable[tuple[str, bytes]]) -> JobHeaders:
    """The job headers of a record as aiokafka gives them; InvalidHeader names the first that cannot be read."""
    pairs = tuple(headers)
    if _begin_as_ours(pairs) and pairs[0][1]:
        try:
            same = _read_repeated(pairs[2:])
        except _NotRepeatedError:
            return _read_job_headers(pairs)
        id_ = JobId(_text(CE_ID, pairs[0][1], MAX_ID_CHARS))
        return msgspec.structs.replace(same, id=id_, created_ms=_time_if_any(pairs[1][1] or b""))
    return _read_job_headers(pairs)


def compact_headers(headers: Headers) -> tuple[tuple[str, bytes], ...]:
    """The same headers; what all jobs of a type have is in memory once: half of what such a record takes."""
    if _begin_as_ours(headers):
        try:
            return (*headers[:2], *_kept_once(*headers[2:]))
        except _NotRepeatedError:
            pass
    return tuple(headers)


_REPEATED = 6
_REPEATED_BYTES = 2048  # that are kept of one such set of headers: foreign senders have headers of any size


class _NotRepeatedError(Exception):
    """These headers are not kept; a cache forgets who asks for what raises."""


def _begin_as_ours(headers: Headers) -> bool:
    """Senders of ours begin with id and time; what follows is the same for all jobs of a type (see `job_headers`)."""
    return 2 < len(headers) <= _REPEATED and headers[0][0] == CE_ID and headers[1][0] == CE_TIME


@lru_cache(maxsize=1024)
def _kept_once(*headers: tuple[str, bytes]) -> tuple[tuple[str, bytes], ...]:
    _check_repeated(headers)
    return headers


def _check_repeated(headers: tuple[tuple[str, bytes], ...]) -> None:
    if sum(len(name) + len(value or b"") for name, value in headers) > _REPEATED_BYTES:
        raise _NotRepeatedError


def _read_job_headers(headers: Iterable[tuple[str, bytes]]) -> JobHeaders:
    found = dict(headers)
    get = found.get
    id_, type_, content_type, created = get(CE_ID), get(CE_TYPE), get(CONTENT_TYPE), get(CE_TIME)
    attempt, replay, not_before, expires = get(ATTEMPT), get(REPLAY), get(NOT_BEFORE), get(EXPIRES)
    return JobHeaders(
        JobId(_text(CE_ID, id_, MAX_ID_CHARS)) if id_ else None,
        _shared_text(CE_TYPE, type_) if type_ else None,
        1 if attempt is None else _number(ATTEMPT, attempt, minimum=1),
        0 if replay is None else _number(REPLAY, replay),
        None if not_before is None else _time(NOT_BEFORE, not_before),
        None if expires is None else _time(EXPIRES, expires),
        _shared_text(CONTENT_TYPE, content_type) if content_type else None,
        _time_if_any(created) if created else None,
        _text(IDEMPOTENCY_KEY, key, MAX_KEY_CHARS) if (key := get(IDEMPOTENCY_KEY)) else None,
        _text(WORKFLOW, workflow, MAX_WORKFLOW_CHARS) if (workflow := get(WORKFLOW)) else None,
        _shared_text(PRIORITY, priority) if (priority := get(PRIORITY)) else None,
        _shared_text(TENANT, tenant) if (tenant := get(TENANT)) else None,
        _shared_text(HOLDS, holds) if (holds := get(HOLDS)) else None,
    )


@lru_cache(maxsize=1024)
def _read_repeated(headers: tuple[tuple[str, bytes], ...]) -> JobHeaders:
    """What follows id and time, where they do not come once more."""
    _check_repeated(headers)
    if any(name in (CE_ID, CE_TIME) for name, _ in headers):
        raise _NotRepeatedError
    return _read_job_headers(headers)


def salvage_job_headers(headers: Iterable[tuple[str, bytes]]) -> JobHeaders:
    """What can be read all the same where `read_job_headers` raises: the job's name, and who is to hear of its end.

    A job has one name wherever it is spoken of: of id and type, what is no UTF-8 is replaced.
    """
    found = dict(headers)
    told = _read_job_headers([(name, found[name]) for name in _OF_ITS_END if name in found and _can_read(name, found)])
    id_ = (found.get(CE_ID) or b"").decode("utf-8", "replace")[:MAX_ID_CHARS]
    type_ = (found.get(CE_TYPE) or b"").decode("utf-8", "replace")[:MAX_TYPE_CHARS]
    return msgspec.structs.replace(told, id=JobId(id_) if id_ else None, type=type_ or None)


_OF_ITS_END = (REPLAY, WORKFLOW, TENANT, HOLDS)


def _can_read(name: str, found: Mapping[str, bytes]) -> bool:
    try:
        _read_job_headers([(name, found[name])])
    except InvalidHeader:
        return False
    return True


def read_origin(headers: Iterable[tuple[str, bytes]]) -> Origin | None:
    """Where the job began, or None for a record that never failed; InvalidHeader where only a part is there."""
    found = dict(headers)
    topic = found.get(ORIGIN_TOPIC)
    if topic is None:
        return None
    return Origin(
        topic=_text(ORIGIN_TOPIC, topic, 249),
        partition=_number(ORIGIN_PARTITION, found.get(ORIGIN_PARTITION) or b""),
        offset=_number(ORIGIN_OFFSET, found.get(ORIGIN_OFFSET) or b"", maximum=2**63 - 1),
        group=_text(ORIGIN_GROUP, found.get(ORIGIN_GROUP) or b"", 249),
    )


def has_origin(headers: Iterable[tuple[str, bytes | None]]) -> bool:
    """Whether a record says where its job began: it is not the first."""
    return any(name == ORIGIN_TOPIC and value is not None for name, value in headers)


def headers_but(headers: Headers, dropped: Container[str]) -> list[tuple[str, bytes]]:
    """The headers with which a record goes on: without these, and without those of ours that are null."""
    return [pair for pair in headers if pair[0] not in dropped and (pair[0] not in OWN_HEADERS or pair[1] is not None)]


def read_failure(headers: Iterable[tuple[str, bytes]]) -> Failure | None:
    """The failure that a retry, dead-letter or parked record tells of, or None. A null header says nothing."""
    found = {name: value for name, value in headers if value is not None}
    if ERROR_TYPE not in found:
        return None
    first = found.get(FIRST_FAILED_AT)
    return Failure(
        type=found[ERROR_TYPE].decode("utf-8", "replace"),
        message=found.get(ERROR_MESSAGE, b"").decode("utf-8", "replace"),
        error_class=found.get(ERROR_CLASS, b"").decode("utf-8", "replace"),
        first_failed_ms=None if first is None else _time(FIRST_FAILED_AT, first),
    )


def first_failed_ms(headers: Iterable[tuple[str, bytes]], *, default: int) -> int:
    """When the job failed first; `default` where the record does not say, or not readably."""
    found = dict(headers).get(FIRST_FAILED_AT)
    try:
        return default if found is None else _time(FIRST_FAILED_AT, found)
    except InvalidHeader:
        return default


def job_headers(
    *,
    id: str,  # noqa: A002 - CloudEvents' word
    type: str,  # noqa: A002 - CloudEvents' word
    source: str,
    created_ms: int,
    content_type: str = "application/json",
    not_before_ms: int | None = None,
    expires_ms: int | None = None,
    extra: Iterable[tuple[str, bytes]] = (),
) -> list[tuple[str, bytes]]:
    """Headers of a new job; `extra` are the user's own and must not repeat ours (`check_extra_headers`)."""
    due = due_headers(not_before_ms, expires_ms)
    return whole_headers(id, created_ms, shared_headers(type, source, content_type), [*due, *extra])


def whole_headers(id_: str, created_ms: int, shared: Headers, own: Headers) -> list[tuple[str, bytes]]:
    """Headers of a new job whose `shared_headers` are there already; `own` are those it has beside them."""
    return [(CE_ID, id_.encode()), _created(created_ms), *shared, *own]


def due_headers(not_before_ms: int | None, expires_ms: int | None) -> list[tuple[str, bytes]]:
    """Headers of a job that may not run before, or not after, a time."""
    headers = []
    if not_before_ms is not None:
        headers.append((NOT_BEFORE, format_time(not_before_ms).encode()))
    if expires_ms is not None:
        headers.append((EXPIRES, format_time(expires_ms).encode()))
    return headers


@lru_cache(maxsize=256)  # jobs are sent together
def _created(ms: int) -> tuple[str, bytes]:
    return CE_TIME, format_time(ms).encode()


@lru_cache(maxsize=1024)
def shared_headers(type_: str, source: str, content_type: str) -> tuple[tuple[str, bytes], ...]:
    """The headers that all jobs of a type from one source have."""
    return (
        (CE_SPECVERSION, b"1.0"),
        (CE_TYPE, type_.encode()),
        (CE_SOURCE, source.encode()),
        (CONTENT_TYPE, content_type.encode()),
    )


def failed_headers(
    headers: Headers,
    *,
    failure: Failure,
    origin: Origin,
    now_ms: int,
    attempt: int,
    not_before_ms: int | None = None,
) -> list[tuple[str, bytes]]:
    """Headers of the retry, dead-letter or parked record that follows a failure.

    Everything the record had is kept, foreign headers included. `attempt` is the attempt that the new record is for
    (the one that failed, on a dead letter). Origin and the time of the first failure are kept if they are there.
    """
    replaced = _FAILURE_HEADERS | {ATTEMPT, NOT_BEFORE, MOVED_FROM}
    kept = headers_but(headers, replaced)
    names = {name for name, _ in kept}
    kept += [
        (ATTEMPT, b"%d" % attempt),
        (ERROR_TYPE, _cut(failure.type, MAX_ERROR_TYPE_BYTES)),
        (ERROR_MESSAGE, _cut(failure.message, MAX_MESSAGE_BYTES)),
        (ERROR_CLASS, failure.error_class.encode()),
    ]
    if not_before_ms is not None:
        kept.append((NOT_BEFORE, format_time(not_before_ms).encode()))
    if FIRST_FAILED_AT not in names:
        first = failure.first_failed_ms if failure.first_failed_ms is not None else now_ms
        kept.append((FIRST_FAILED_AT, format_time(first).encode()))
    if ORIGIN_TOPIC not in names:
        kept += [
            (ORIGIN_TOPIC, origin.topic.encode()),
            (ORIGIN_PARTITION, b"%d" % origin.partition),
            (ORIGIN_OFFSET, b"%d" % origin.offset),
            (ORIGIN_GROUP, origin.group.encode()),
        ]
    return kept


def replayed_headers(headers: Headers, *, replay: int) -> list[tuple[str, bytes]]:
    """Headers of a dead letter that an operator sends round again: attempt 1, `job-replay` raised, origin kept."""
    dropped = _FAILURE_HEADERS | {ATTEMPT, NOT_BEFORE, EXPIRES, REPLAY, FIRST_FAILED_AT, DETAILS, MOVED_FROM}
    kept = headers_but(headers, dropped)
    kept.append((REPLAY, b"%d" % replay))
    return kept


def check_extra_headers(extra: Iterable[tuple[str, bytes | str]]) -> list[tuple[str, bytes]]:
    """The user's own headers as pairs of text and bytes; InvalidHeader for one of ours or of a wrong type."""
    checked = []
    for name, value in extra:
        if not isinstance(name, str) or not name:
            raise InvalidHeader(str(name), value, "a header with a name of text")
        if name in OWN_HEADERS:
            raise InvalidHeader(name, value, "yours to set: it is written by logqueue")
        if not isinstance(value, (bytes, str)):
            raise InvalidHeader(name, value, "bytes or text")
        try:
            name.encode()
            checked.append((name, value.encode() if isinstance(value, str) else value))
        except UnicodeEncodeError:
            raise InvalidHeader(ascii(name), value, "text with a UTF-8 form") from None
    return checked


def _text(name: str, value: bytes, limit: int) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise InvalidHeader(name, value, "UTF-8 text") from None
    if len(text) > limit:
        raise InvalidHeader(name, text[:40] + "...", f"at most {limit} characters long")
    return text


@lru_cache(maxsize=1024)  # there are few types, and it saves one text per job
def _shared_text(name: str, value: bytes) -> str:
    return _text(name, value, MAX_TYPE_CHARS)


def _number(name: str, value: bytes, *, minimum: int = 0, maximum: int = MAX_ATTEMPT) -> int:
    if value.isdigit() and len(value) <= 19 and minimum <= (number := int(value)) <= maximum:
        return number
    raise InvalidHeader(name, value[:40], f"a whole number from {minimum} to {maximum}")


@lru_cache(maxsize=1024)  # jobs that were sent together share their time
def _time(name: str, value: bytes) -> int:
    try:
        ms = parse_time(value.decode())
    except (ValueError, OverflowError):
        raise InvalidHeader(name, value[:40], "an RFC 3339 time such as 2026-01-31T12:00:00.000Z") from None
    if not 0 <= ms <= MAX_MS:
        raise InvalidHeader(name, value[:40], "a time from 1970 to 9999")
    return ms


def _time_if_any(created: bytes) -> int | None:
    """`ce_time` only informs: where a foreign producer wrote something else, the record's own time stands in."""
    try:
        return _time(CE_TIME, created)
    except InvalidHeader:
        return None


def _cut(text: str, limit: int) -> bytes:
    """UTF-8 of the text, cut at a character's end to `limit` bytes."""
    encoded = text.encode("utf-8", "replace")
    return encoded if len(encoded) <= limit else encoded[:limit].decode("utf-8", "ignore").encode()
