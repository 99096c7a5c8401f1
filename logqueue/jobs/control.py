"""Operator commands as records of `jobs.control`: keys, JSON values, and the fold that says what holds now. Pure.

The topic is compacted: the last record of a key holds, a tombstone takes it back. Every value is a JSON object with
`by` (who) and `at` (milliseconds since the epoch).

| key                            | value has besides  | means                                                          |
|--------------------------------|--------------------|----------------------------------------------------------------|
| `definition/<app>/<type>`      |                    | no command: what a worker publishes, `JobDefinition.describe`  |
| `cancel/<job id>`              | `replay`, `reason` | the job is cancelled up to that replay (`moved`: it goes on) |
| `run-now/<job id>`             | `replay`           | due times that were set before `at` do not count               |
| `retry/<job id>`               | `replay`           | the job was sent round again as that replay                    |
| `discard/<job id>`             | `replay`           | its dead letters up to that replay are closed                  |
| `dead-letter/<topic>/<p>/<o>`  | `event`            | what became of that letter                                     |
| `pause/queue/<q>`, `pause/type/<type>`, `pause/tenant/<q>/<tenant>` | `reason` | no job of it starts                 |
| `kill/...`, `limit/...`, `weight/...`, `schedule-pause/...` | see their rooms | kept as they are                     |

`ControlState` keeps cancels and run-nows as values of their own, since there may be many, and every other standing
command as its JSON object under its key. Definitions and what only records a deed (`retry/`, `discard/`,
`dead-letter/`) it passes over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

MAX_JOB_COMMANDS = 100_000
"""Cancels and run-nows that may stand at one time, each; a worker keeps them in memory, about 250 bytes each."""
MAX_STANDING = 20_000
"""Other commands that may stand at one time: pauses, limits, kill switches."""
MAX_BY_CHARS = 200
MAX_REASON_CHARS = 500

CANCEL = "cancel/"
RUN_NOW = "run-now/"
RETRY = "retry/"
DISCARD = "discard/"
DEAD_LETTER = "dead-letter/"
DEFINITION = "definition/"
KILL = "kill/"
LIMIT = "limit/"

_STANDING = ("pause/", KILL, LIMIT, "schedule-pause/", "weight/")


class Cancel(NamedTuple):
    """Somebody wants a job not to run (any more), up to this `replay` of it."""

    replay: int
    by: str
    at_ms: int
    reason: str | None = None
    is_moved: bool = False
    """The job goes on as its next replay: only this record of it is not to run."""


class RunNow(NamedTuple):
    """Somebody wants a waiting job to run at once: what was set before `at_ms` to wait for does not count."""

    replay: int
    by: str
    at_ms: int


class Change(NamedTuple):
    """A command that begins to hold, or one taken back (`is_set` false). `subject` is the key behind the prefix."""

    kind: str
    subject: str
    is_set: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command as it is written: key, value (None takes it back), who, when."""

    key: str
    by: str
    at_ms: int
    value: Mapping[str, Any] | None

    def record(self) -> tuple[bytes, bytes | None]:
        """Key and value of its record in the control topic."""
        if self.value is None:
            return self.key.encode(), None
        return self.key.encode(), encode_json({**self.value, "by": self.by, "at": self.at_ms})


encode_json = msgspec.json.Encoder().encode


def cancel_command(
    job_id: str, *, replay: int, by: str, at_ms: int, reason: str | None = None, is_moved: bool = False
) -> Command:
    """Cancel a job, up to this replay of it; `is_moved`: it goes on as the next one."""
    value: dict[str, Any] = {"replay": replay}
    if is_moved:
        value["moved"] = True
    if reason is not None:
        value["reason"] = reason[:MAX_REASON_CHARS]
    return Command(key=CANCEL + job_id, by=by, at_ms=at_ms, value=value)


def run_now_command(job_id: str, *, replay: int, by: str, at_ms: int) -> Command:
    """Let a job that waits for its time run at once."""
    return Command(key=RUN_NOW + job_id, by=by, at_ms=at_ms, value={"replay": replay})


def retry_command(job_id: str, *, replay: int, by: str, at_ms: int) -> Command:
    """Note that a job that had ended was sent round again, as this replay."""
    return Command(key=RETRY + job_id, by=by, at_ms=at_ms, value={"replay": replay})


def discard_command(job_id: str, *, replay: int, by: str, at_ms: int) -> Command:
    """Note that nobody wants to see the dead letters of a job any more, up to this replay of it."""
    return Command(key=DISCARD + job_id, by=by, at_ms=at_ms, value={"replay": replay})


def withdraw(key: str, *, by: str, at_ms: int) -> Command:
    """Take a command back."""
    return Command(key=key, by=by, at_ms=at_ms, value=None)


class ControlState:
    """What holds now, folded from the records of the control topic in their order.

    The same whatever part of the history compaction has removed. Values that are no JSON object count as taken back:
    nothing that somebody writes there may stop a worker.
    """

    def __init__(self) -> None:
        self.cancels: dict[str, Cancel] = {}
        """By job id."""
        self.run_nows: dict[str, RunNow] = {}
        """By job id."""
        self.standing: dict[str, Mapping[str, Any]] = {}
        """Everything else that holds, by key: `pause/queue/emails`, ..."""
        self.refused = 0
        """Commands passed over because too many stood already."""

    def apply(self, key: bytes | None, value: bytes | None) -> Change | None:
        """Take in one record; tells what it changed, None if nothing that is kept."""
        text = key.decode("utf-8", "replace") if key else ""
        if text.startswith(CANCEL):
            return self._apply_cancel(text[len(CANCEL) :], read_value(value))
        if text.startswith(RUN_NOW):
            return self._apply_run_now(text[len(RUN_NOW) :], read_value(value))
        if text.startswith(_STANDING):
            return self._apply_standing(text, read_value(value))
        return None

    def under(self, prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The standing commands whose keys begin so, as (rest of the key, value): `under("pause/queue/")`."""
        return ((key[len(prefix) :], value) for key, value in self.standing.items() if key.startswith(prefix))

    def cancel_of(self, job_id: str, replay: int) -> Cancel | None:
        """The cancel that a run of a job falls under."""
        cancel = self.cancels.get(job_id)
        return cancel if cancel is not None and replay <= cancel.replay else None

    def run_now_of(self, job_id: str, replay: int, *, waits_since_ms: int) -> RunNow | None:
        """The command by which a job that was told to wait at `waits_since_ms` runs at once."""
        found = self.run_nows.get(job_id)
        return found if found is not None and replay == found.replay and waits_since_ms <= found.at_ms else None

    def _apply_cancel(self, job_id: str, value: Mapping[str, Any] | None) -> Change | None:
        if value is None:
            return Change(CANCEL, job_id, False) if self.cancels.pop(job_id, None) is not None else None
        if not self._has_room(self.cancels, job_id, MAX_JOB_COMMANDS):
            return None
        by, at_ms = _who_and_when(value)
        reason = value.get("reason")
        replay = _whole(value.get("replay"))
        told = reason if isinstance(reason, str) else None
        self.cancels[job_id] = Cancel(replay, by, at_ms, told, value.get("moved") is True)
        return Change(CANCEL, job_id, True)

    def _apply_run_now(self, job_id: str, value: Mapping[str, Any] | None) -> Change | None:
        if value is None:
            return Change(RUN_NOW, job_id, False) if self.run_nows.pop(job_id, None) is not None else None
        if not self._has_room(self.run_nows, job_id, MAX_JOB_COMMANDS):
            return None
        by, at_ms = _who_and_when(value)
        self.run_nows[job_id] = RunNow(_whole(value.get("replay")), by, at_ms)
        return Change(RUN_NOW, job_id, True)

    def _apply_standing(self, key: str, value: Mapping[str, Any] | None) -> Change | None:
        kind, _, subject = key.partition("/")
        if value is None:
            return Change(kind + "/", subject, False) if self.standing.pop(key, None) is not None else None
        if not self._has_room(self.standing, key, MAX_STANDING):
            return None
        self.standing[key] = value
        return Change(kind + "/", subject, True)

    def _has_room(self, table: Mapping[str, Any], key: str, limit: int) -> bool:
        if len(table) < limit or key in table:
            return True
        self.refused += 1
        return False


def read_value(value: bytes | None) -> Mapping[str, Any] | None:
    """The JSON object of a value; None for a tombstone and for what is no JSON object."""
    if not value:
        return None
    try:
        found = msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def fold(records: Iterable[tuple[bytes | None, bytes | None]]) -> ControlState:
    """The state after these records."""
    state = ControlState()
    for key, value in records:
        state.apply(key, value)
    return state


def _who_and_when(value: Mapping[str, Any]) -> tuple[str, int]:
    by = value.get("by")
    return (by[:MAX_BY_CHARS] if isinstance(by, str) else "unknown"), _whole(value.get("at"))


def _whole(number: object) -> int:
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else 0
