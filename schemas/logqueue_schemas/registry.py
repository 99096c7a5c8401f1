"""The schema topic as a table: Confluent's `_schemas` records -> subjects, versions, ids. Pure; knows no Kafka client.

A record's key is `{"keytype":"SCHEMA","subject":S,"version":V,"magic":1}`, its value
`{"subject":S,"version":V,"id":I,"schema":"...","deleted":false}`; the topic has one partition and is compacted.
Other key types (CONFIG, NOOP, DELETE_SUBJECT, ...) are passed over.

Registration without a lock. An id is made from what the schema says (`content_id`), so whoever registers a schema
asks for the same id, and ids of different schemas do not race. What can race is the version: two writers that put
different schemas under the same subject and version. The later record wins, as compaction will have it. Its writer
reads that it displaced another schema and registers that one again, under the next version and with the same id, before
it goes on: `missing` lists what a writer has to write. Should it die first, the next writer of the subject does it;
until then the displaced record is still in the topic, since compaction spares the active segment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from logqueue_schemas.avro import canonical, content_id

ID_LIMIT = 2**31 - 1
MAGIC = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A schema under a subject and version, with the id that stands in the frames of its values."""

    subject: str
    version: int
    id: int
    schema: str

    def key(self) -> bytes:
        """Key of its record, byte for byte as Confluent's registry writes it."""
        key = {"keytype": "SCHEMA", "subject": self.subject, "version": self.version, "magic": MAGIC}
        return json.dumps(key, separators=(",", ":")).encode()

    def value(self) -> bytes:
        """Value of its record."""
        value = {
            "subject": self.subject,
            "version": self.version,
            "id": self.id,
            "schema": self.schema,
            "deleted": False,
        }
        return json.dumps(value, separators=(",", ":")).encode()


class SchemaTable:
    """What the records of the schema topic, applied in order, say."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[int, Registration]] = {}
        self._by_id: dict[int, str] = {}
        self._displaced: dict[str, list[Registration]] = {}

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Take in one record; records that are no schemas (or broken) change nothing."""
        address = _address(key)
        if address is None:
            return
        subject, version = address
        record = _record(value)
        if record is not None:
            # First come, first served: frames with this id may be in the log already. Deleted ones stay readable.
            self._by_id.setdefault(record["id"], record["schema"])
        if record is None or record["deleted"]:
            self._versions.get(subject, {}).pop(version, None)
            return
        registration = Registration(subject=subject, version=version, id=record["id"], schema=record["schema"])
        versions = self._versions.setdefault(subject, {})
        if version in versions and versions[version] != registration:
            self._displaced.setdefault(subject, []).append(versions[version])
        versions[version] = registration

    def subjects(self) -> list[str]:
        """The subjects that have a version."""
        return sorted(subject for subject, versions in self._versions.items() if versions)

    def versions(self, subject: str) -> list[Registration]:
        """The registrations of a subject, oldest version first."""
        versions = self._versions.get(subject, {})
        return [versions[number] for number in sorted(versions)]

    def schema_of(self, schema_id: int) -> Any | None:
        """The schema (as JSON values) of an id, or None if no record has it."""
        text = self._by_id.get(schema_id)
        return None if text is None else json.loads(text)

    def find(self, subject: str, schema: Any) -> Registration | None:
        """The newest registration of this schema under the subject, or None."""
        wanted = canonical(schema)
        for registration in reversed(self.versions(subject)):
            # An id that an earlier record gave to another schema would be read as that one.
            if _canonical_text(registration.schema) == wanted == _canonical_text(self._by_id[registration.id]):
                return registration
        return None

    def missing(self, subject: str, schema: Any) -> list[Any]:
        """The schemas that someone who registers this one has to write: itself, and those displaced by a race."""
        wanted = [schema, *(json.loads(lost.schema) for lost in self._displaced.get(subject, ()))]
        return [one for one in wanted if self.find(subject, one) is None]

    def propose(self, subject: str, schema: Any) -> Registration:
        """The registration to write for a schema that is missing."""
        versions = self.versions(subject)
        return Registration(
            subject=subject,
            version=versions[-1].version + 1 if versions else 1,
            id=self._id_for(schema),
            schema=json.dumps(schema, separators=(",", ":")),
        )

    def _id_for(self, schema: Any) -> int:
        wanted = canonical(schema)
        candidate = content_id(schema)
        while candidate in self._by_id and _canonical_text(self._by_id[candidate]) != wanted:
            candidate += 1
        assert candidate <= ID_LIMIT, "a registry of a billion schemas"
        return candidate


def _address(key: bytes | None) -> tuple[str, int] | None:
    try:
        parsed = json.loads(key or b"")
        if parsed["keytype"] != "SCHEMA":
            return None
        return str(parsed["subject"]), int(parsed["version"])
    except (ValueError, KeyError, TypeError):
        return None


def _record(value: bytes | None) -> dict[str, Any] | None:
    """Id, schema and deletion mark of a record's value; None where it is a tombstone or no Avro schema."""
    try:
        parsed = json.loads(value or b"")
        if parsed.get("schemaType", "AVRO") != "AVRO":
            return None
        json.loads(parsed["schema"])
        return {"id": int(parsed["id"]), "schema": parsed["schema"], "deleted": bool(parsed.get("deleted"))}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _canonical_text(schema: str) -> str:
    return canonical(json.loads(schema))
