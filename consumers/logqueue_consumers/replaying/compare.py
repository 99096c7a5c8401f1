"""What a replay came to, beside what the live run came to: verdicts, differences by path, a summary. No IO.

Results are compared as JSON values: the order of an object's members says nothing, 1 and 1.0 are one number, true is no
number. Paths are JSON Pointers (RFC 6901); in an ignored path `*` stands for any one member or element.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

import msgspec
from logqueue_schemas.job_status import State

MAX_DIFFERENCES = 20
"""Of one job; the rest is counted."""
MAX_EXAMPLES = 20
MAX_SHOWN_CHARS = 200
MAX_PATHS = 1_000
"""Paths counted apart; what comes after them is counted together."""
OTHER_PATHS = "(other paths)"

_ABSENT = object()


class Verdict(StrEnum):
    """How a replayed job stands to its live run."""

    SAME = "same"
    DIFFERENT = "different"
    """Both succeeded, with other results."""
    NOW_FAILS = "now-fails"
    NOW_SUCCEEDS = "now-succeeds"
    FAILS_DIFFERENTLY = "fails-differently"
    """Both failed, with another type of error."""
    NOT_RECORDED = "not-recorded"
    """No end of the live run is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run of a job ended. `result` is JSON, None for null or none.

    `error_type`: of one that did not succeed; its state where it had no error (`cancelled`, `expired`).
    """

    has_succeeded: bool
    result: bytes | None = None
    error_type: str | None = None

    @classmethod
    def of(cls, state: State, *, result: bytes | None = None, error_type: str | None = None) -> Self:
        """That of a run which ended in a terminal state."""
        has_succeeded = state is State.SUCCEEDED
        reason = error_type if has_succeeded else error_type or state.name.lower()
        return cls(has_succeeded=has_succeeded, result=result, error_type=reason)


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two results differ; values as short texts, None where there is nothing."""

    path: str
    recorded: str | None
    replayed: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A job whose replay came to something else."""

    id: str
    type: str | None
    verdict: Verdict
    differences: tuple[Difference, ...] = ()
    recorded_error: str | None = None
    replayed_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonSummary:
    """A replay beside the live runs. `paths`: where results differ, and in how many jobs."""

    compared: int
    verdicts: dict[str, int]
    paths: dict[str, int]
    examples: tuple[Example, ...]

    @property
    def is_same(self) -> bool:
        """Whether everything that could be compared was the same."""
        known = (Verdict.SAME, Verdict.NOT_RECORDED)
        return all(verdict in known for verdict, count in self.verdicts.items() if count)


@dataclass(slots=True)
class Comparison:
    """Takes the replayed jobs one by one."""

    ignore: Sequence[str] = ()
    _verdicts: Counter[Verdict] = field(default_factory=Counter)
    _paths: Counter[str] = field(default_factory=Counter)
    _examples: list[Example] = field(default_factory=list)

    def add(self, id_: str, type_: str | None, *, recorded: Ending | None, replayed: Ending) -> Verdict:
        """One job: how it ended live (None: not known) and in the replay."""
        found: tuple[Difference, ...] = ()
        if recorded is None:
            verdict = Verdict.NOT_RECORDED
        elif recorded.has_succeeded and replayed.has_succeeded:
            found = tuple(differences(recorded.result, replayed.result, ignore=self.ignore))
            verdict = Verdict.DIFFERENT if found else Verdict.SAME
        elif recorded.has_succeeded:
            verdict = Verdict.NOW_FAILS
        elif replayed.has_succeeded:
            verdict = Verdict.NOW_SUCCEEDS
        else:
            is_same = recorded.error_type == replayed.error_type
            verdict = Verdict.SAME if is_same else Verdict.FAILS_DIFFERENTLY
        self._verdicts[verdict] += 1
        for path in {difference.path for difference in found}:
            self._paths[path if path in self._paths or len(self._paths) < MAX_PATHS else OTHER_PATHS] += 1
        if verdict not in (Verdict.SAME, Verdict.NOT_RECORDED) and len(self._examples) < MAX_EXAMPLES:
            self._examples.append(
                Example(
                    id=id_,
                    type=type_,
                    verdict=verdict,
                    differences=found[:MAX_DIFFERENCES],
                    recorded_error=recorded.error_type if recorded is not None else None,
                    replayed_error=replayed.error_type,
                )
            )
        return verdict

    def summary(self) -> ComparisonSummary:
        """What was found so far."""
        return ComparisonSummary(
            compared=sum(self._verdicts.values()),
            verdicts={verdict.value: self._verdicts[verdict] for verdict in Verdict},
            paths=dict(self._paths.most_common()),
            examples=tuple(self._examples),
        )


def differences(recorded: bytes | None, replayed: bytes | None, *, ignore: Sequence[str] = ()) -> Iterator[Difference]:
    """Where two results differ, in the order of the recorded one."""
    ignored = [pattern.strip("/").split("/") if pattern.strip("/") else [] for pattern in ignore]
    yield from _walk((), _value(recorded), _value(replayed), ignored)


def check_pointer(text: str) -> str:
    """A path to be ignored, or ValueError."""
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not a path such as /total or /items/*/at")
    return text


def _value(encoded: bytes | None) -> Any:
    return None if encoded is None else msgspec.json.decode(encoded)


def _walk(
    path: tuple[str, ...], recorded: Any, replayed: Any, ignored: Iterable[Sequence[str]]
) -> Iterator[Difference]:
    if any(_matches(path, pattern) for pattern in ignored):
        return
    if isinstance(recorded, dict) and isinstance(replayed, dict):
        for key in dict.fromkeys([*recorded, *replayed]):
            yield from _walk((*path, key), recorded.get(key, _ABSENT), replayed.get(key, _ABSENT), ignored)
    elif isinstance(recorded, list) and isinstance(replayed, list):
        for place in range(max(len(recorded), len(replayed))):
            one = recorded[place] if place < len(recorded) else _ABSENT
            other = replayed[place] if place < len(replayed) else _ABSENT
            yield from _walk((*path, str(place)), one, other, ignored)
    elif not _is_equal(recorded, replayed):
        yield Difference(_pointer(path), _shown(recorded), _shown(replayed))


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    return len(path) == len(pattern) and all(
        step == "*" or step == _escaped(part) for step, part in zip(pattern, path, strict=True)
    )


def _is_equal(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _pointer(path: Sequence[str]) -> str:
    return "".join("/" + _escaped(part) for part in path)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def _shown(value: Any) -> str | None:
    if value is _ABSENT:
        return None
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "..."
