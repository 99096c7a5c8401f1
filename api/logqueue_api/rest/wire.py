"""Jobs, times and positions as they stand in JSON and in query strings. Values only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import msgspec
import orjson
from logqueue_consumers.view.job import NO_EXPIRY, STATE_NAMES, Job

from logqueue.ids import TopicPartition
from logqueue.jobs.times import parse_time
from logqueue_api.rest.problems import FieldFault, Problem, invalid

MAX_POSITIONS: Final = 1_000  # in one min_position

_SURELY_WRITTEN: Final = 200  # brackets: so few are never too deep
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_POSITION: Final = re.compile(
    r"(?P<topic>[A-Za-z0-9._-]{1,249})-(?P<partition>\d{1,10})-(?P<offset>\d{1,18})", re.ASCII
)


def time_text(microseconds: int | None) -> str | None:
    """RFC 3339 in UTC of microseconds since the epoch; None stays None, a time beyond the calendar is None too."""
    if microseconds is None:
        return None
    seconds, rest = divmod(microseconds, 1_000_000)
    text = _second_text(seconds)
    return None if text is None else f"{text}.{rest:06d}Z"


@lru_cache(maxsize=1024)  # jobs of one moment share their seconds, and most of a time's price
def _second_text(seconds: int) -> str | None:
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None
    return moment.isoformat(timespec="seconds")[:-6]


def job_document(job: Job, default_types: Mapping[str, str]) -> dict[str, Any]:
    """A job as the API shows it."""
    identity, outcome = job.identity, job.outcome
    return {
        "id": job.key.id,
        "type": job.type or default_types.get(identity.queue),
        "queue": identity.queue,
        "tenant": identity.tenant,
        "state": STATE_NAMES[outcome.state],
        "attempt": outcome.attempt,
        "replay": outcome.replay,
        "created_at": time_text(identity.created_ms * 1000),
        "started_at": time_text(outcome.started_at),
        "finished_at": time_text(outcome.finished_at),
        "due_at": time_text(outcome.due_at),
        "expires_at": None if identity.expires_us == NO_EXPIRY else time_text(identity.expires_us),
        "updated_at": time_text(outcome.at),
        "result": _json(outcome.result),
        "error": _json(outcome.error),
        "topic": identity.topic,
        "partition": identity.partition,
        "offset": identity.offset,
        "group": outcome.group or None,
        "shadow": job.key.shadow or None,
        "worker": outcome.worker,
        "details": details if isinstance(details := _json(outcome.details), dict) else {},
    }


def job_version(job: Job) -> str:
    """The entity tag of a job: another one after each change of its state."""
    outcome = job.outcome
    return f'"{outcome.replay}.{outcome.attempt}.{outcome.rank}.{outcome.sequence}"'


def position_text(topic: str, partition: int, offset: int) -> str:
    """A place in the log as `topic-partition-offset`, the form that `min_position` takes."""
    return f"{topic}-{partition}-{offset}"


def read_positions(text: str) -> dict[TopicPartition, int]:
    """`topic-partition-offset`, or several with commas -> the offsets that the view must hold."""
    parts = text.split(",")
    if len(parts) > MAX_POSITIONS:
        raise invalid("min_position", f"at most {MAX_POSITIONS} positions")
    positions: dict[TopicPartition, int] = {}
    for part in parts:
        found = _POSITION.fullmatch(part.strip())
        if found is None:
            raise invalid("min_position", f"{part.strip()[:80]!r} is not of the form topic-partition-offset")
        at = TopicPartition(found["topic"], int(found["partition"]))
        positions[at] = max(positions.get(at, 0), int(found["offset"]))
    return positions


def read_time_ms(field: str, text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time in a query."""
    try:
        # In a query string a "+" of the zone arrives as a space.
        return parse_time(text.replace(" ", "+") if "T" in text.upper() else text)
    except (ValueError, OverflowError):
        raise invalid(field, "not an RFC 3339 time with a zone, such as 2026-01-31T12:00:00Z") from None


def read_json(body: bytes) -> Any:
    """A JSON body; 400 says where it stops being JSON."""
    if not body.strip():
        raise Problem(400, "the body is empty; a JSON object is expected", faults=[FieldFault("body", "empty")])
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        detail = f"not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        raise Problem(400, f"the body is {detail}", faults=[FieldFault("body", detail)]) from None


def read_value(text: bytes) -> Any:
    """A JSON value that can be written again; JSONDecodeError for anything else, also for one that is too deep.

    orjson reads 1,024 levels and writes 254: one deep value would take the whole page that it is on with it.
    """
    value = orjson.loads(text)
    if text.count(b"[") + text.count(b"{") > _SURELY_WRITTEN and not can_be_written(value):
        raise orjson.JSONDecodeError("nested too deep", "", 0)
    return value


def can_be_written(value: Any) -> bool:
    """Whether what came from JSON can stand in any answer: it is not too deep, and has no number beyond 64 bits."""
    try:
        orjson.dumps([[[[[[[[value]]]]]]]])  # as deep as it lies in any answer
    except TypeError:
        return False
    return True


def writable(value: Any) -> Any:
    """What came from JSON, or its text where that is what can be written."""
    if can_be_written(value):
        return value
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError:
        return "(nested too deep)"


def check_arguments(field: str, arguments: Mapping[str, Any]) -> None:
    """A Problem (400) for arguments that no list could show."""
    if not can_be_written(arguments):
        raise invalid(field, "nested too deep")


def _json(text: bytes | None) -> Any:
    if text is None:
        return None
    try:
        return read_value(text)
    except orjson.JSONDecodeError:
        return text.decode("utf-8", "replace")
