"""What subjects of the log ask of their next version, and the refusal of one that does not keep it. Pure.

| subject                         | asks for            | because                                                     |
|---------------------------------|---------------------|-------------------------------------------------------------|
| `jobs.<queue>-<type>`           | BACKWARD_TRANSITIVE | a replay reads the oldest jobs with the newest code         |
| `jobs.status-value`             | FULL_TRANSITIVE     | older workers and views read what newer ones write          |
| any other                       | BACKWARD            | Confluent's default                                         |

A level that was set for the subject itself comes before these; one that was set for all stands before the last alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from logqueue_schemas.evolution import Conflict, Level
from logqueue_schemas.job_status import SUBJECT_SUFFIX
from logqueue_schemas.registry import SchemaTable

from logqueue.errors import LogqueueError
from logqueue.jobs.topics import TopicNames

DEFAULT_LEVEL: Final = Level.BACKWARD
DEFAULT_MODE: Final = "READWRITE"
MAX_TOLD: Final = 5  # conflicts in a message


class SchemaRefused(LogqueueError):
    """A schema that must not follow the versions that are there. `conflicts` has all that is wrong with it."""

    def __init__(self, subject: str, level: Level, conflicts: Sequence[Conflict]) -> None:
        told = "; ".join(str(conflict) for conflict in conflicts[:MAX_TOLD])
        more = f"; and {len(conflicts) - MAX_TOLD} more" if len(conflicts) > MAX_TOLD else ""
        super().__init__(f"Schema {subject!r} is not {level.value} compatible: {told}{more}")
        self.subject = subject
        self.level = level
        self.conflicts = tuple(conflicts)


def job_subject(names: TopicNames, *, queue: str, type_: str) -> str:
    """The subject of a job type's arguments."""
    return f"{names.jobs(queue)}-{type_}"


def level_of(table: SchemaTable, names: TopicNames, subject: str) -> Level:
    """What the subject asks of its next version."""
    own = table.level(subject)
    if own is not None:
        return own
    if subject == names.status + SUBJECT_SUFFIX:
        return Level.FULL_TRANSITIVE
    if subject.startswith(names.jobs("x").removesuffix("x")):
        return Level.BACKWARD_TRANSITIVE
    return table.level(None) or DEFAULT_LEVEL


def mode_of(table: SchemaTable, subject: str) -> str:
    """Whether the subject takes new versions: READWRITE or READONLY."""
    return table.mode(subject) or table.mode(None) or DEFAULT_MODE
