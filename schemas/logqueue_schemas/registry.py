"""The schema topic as a table: Confluent's `_schemas` records -> subjects, versions, ids, levels. Pure.

The records are in `schema_records`. The topic has one partition and is compacted.

Registration without a lock. An id is made from what the schema says (`wanted_id`), so whoever registers a schema
asks for the same id, and ids of different schemas do not race. What can race is the version: two writers that put
different schemas under the same subject and version. The later record wins, as compaction will have it. Its writer
reads that it displaced another schema and registers that one again, under the next version and with the same id, before
it goes on: `missing` lists what a writer has to write. Should it die first, the next writer of the subject does it;
until then the displaced record is still in the topic, since compaction spares the active segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from logqueue_schemas.evolution import Level
from logqueue_schemas.kinds import digest_of, kind_of_schema, text_of_schema, wanted_id
from logqueue_schemas.schema_records import (
    ID_LIMIT,
    Cleared,
    LevelSet,
    ModeSet,
    Registration,
    SubjectDeleted,
    VersionGone,
    read_record,
)


class SchemaTable:
    """What the records of the schema topic, applied in order, say. `subject` None is all subjects, for levels, modes.

    Deleted versions (Confluent's soft delete) are still there for those who ask for them with `deleted=True`.
    """

    def __init__(self) -> None:
        self._versions: dict[str, dict[int, Registration]] = {}
        self._by_id: dict[int, Registration] = {}
        self._displaced: dict[str, list[Registration]] = {}
        self._levels: dict[str | None, Level] = {}
        self._modes: dict[str | None, str] = {}

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Take in one record; records that say nothing to us (or are broken) change nothing."""
        match read_record(key, value):
            case Registration() as registration:
                self._register(registration)
            case VersionGone(subject=subject, version=version):
                self._versions.get(subject, {}).pop(version, None)
            case SubjectDeleted(subject=subject, version=last):
                for registration in self.versions(subject):
                    if registration.version <= last:
                        self._versions[subject][registration.version] = registration.deleted()
                self._displaced.pop(subject, None)
            case Cleared(subject=subject):
                self._versions.pop(subject, None)
                self._displaced.pop(subject, None)
            case LevelSet(subject=name, level=level):
                _put(self._levels, name, level)
            case ModeSet(subject=name, mode=mode):
                _put(self._modes, name, mode)

    def _register(self, registration: Registration) -> None:
        subject, version = registration.subject, registration.version
        # First come, first served: frames with this id may be in the log already. Deleted ones stay readable.
        self._by_id.setdefault(registration.id, registration)
        versions = self._versions.setdefault(subject, {})
        lost, displaced = versions.get(version), self._displaced.get(subject, [])
        said = registration.digest
        if lost is not None and not lost.is_deleted and lost.digest != said:
            displaced = [*displaced, lost]
        self._displaced[subject] = [one for one in displaced if one.digest != said]
        versions[version] = registration

    def subjects(self, *, deleted: bool = False) -> list[str]:
        """The subjects that have a version."""
        return sorted(subject for subject in self._versions if self.versions(subject, deleted=deleted))

    def versions(self, subject: str, *, deleted: bool = False) -> list[Registration]:
        """The registrations of a subject, oldest version first."""
        versions = self._versions.get(subject, {})
        return [versions[number] for number in sorted(versions) if deleted or not versions[number].is_deleted]

    def registrations(self, *, deleted: bool = False) -> Iterator[Registration]:
        """Those of all subjects, by name and version."""
        for subject in self.subjects(deleted=deleted):
            yield from self.versions(subject, deleted=deleted)

    def first_of(self, schema_id: int) -> Registration | None:
        """The registration that gave an id its schema, or None if no record has it."""
        return self._by_id.get(schema_id)

    def schema_of(self, schema_id: int) -> Any | None:
        """The schema of an id (JSON values of Avro, or a JsonSchema), or None if no record has it."""
        first = self._by_id.get(schema_id)
        return None if first is None else first.parsed

    def level(self, subject: str | None) -> Level | None:
        """The level that was set for a subject itself, or for all."""
        return self._levels.get(subject)

    def mode(self, subject: str | None) -> str | None:
        """The mode that was set for a subject itself, or for all."""
        return self._modes.get(subject)

    def find(self, subject: str, schema: Any, *, deleted: bool = False) -> Registration | None:
        """The newest registration of this schema under the subject, or None."""
        wanted = digest_of(schema)
        for registration in reversed(self.versions(subject, deleted=deleted)):
            # An id that an earlier record gave to another schema would be read as that one.
            if registration.digest == wanted == self._by_id[registration.id].digest:
                return registration
        return None

    def missing(self, subject: str, schema: Any) -> list[Any]:
        """The schemas that someone who registers this one has to write: itself, and those displaced by a race."""
        wanted = [schema, *(lost.parsed for lost in self._displaced.get(subject, ()))]
        return [one for one in wanted if self.find(subject, one) is None]

    def propose(self, subject: str, schema: Any) -> Registration:
        """The registration to write for a schema that is missing."""
        versions = self.versions(subject, deleted=True)
        return Registration(
            subject=subject,
            version=versions[-1].version + 1 if versions else 1,
            id=self._id_for(schema),
            schema=text_of_schema(schema),
            kind=kind_of_schema(schema),
        )

    def _id_for(self, schema: Any) -> int:
        wanted = digest_of(schema)
        candidate = wanted_id(schema)
        while candidate in self._by_id and self._by_id[candidate].digest != wanted:
            candidate += 1
        assert candidate <= ID_LIMIT, "a registry of a billion schemas"
        return candidate


def _put(values: dict[str | None, Any], name: str | None, value: Any | None) -> None:
    if value is None:
        values.pop(name, None)
    else:
        values[name] = value
