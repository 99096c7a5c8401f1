"""Records of the schema topic <-> values, in the layout of Confluent's registry. Pure.

| keytype        | key                            | value                                                          |
|----------------|--------------------------------|----------------------------------------------------------------|
| SCHEMA         | subject, version, magic 1      | subject, version, id, schema, deleted; none: gone for good     |
| CONFIG         | subject (or null), magic 0     | compatibilityLevel; none: no level of its own any more         |
| MODE           | subject (or null), magic 0     | mode; none: no mode of its own any more                        |
| DELETE_SUBJECT | subject, magic 0               | subject, version: all up to this one are deleted, not gone     |
| CLEAR_SUBJECT  | subject, magic 0               | subject: everything about it is gone                           |

A schema that is not Avro has its `schemaType` in the value. Other key types (NOOP, CONTEXT, ...) and Protobuf are
passed over.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from logqueue_schemas.avro import check_depth
from logqueue_schemas.evolution import Level
from logqueue_schemas.json_schema import JsonSchema
from logqueue_schemas.kinds import AVRO, KINDS, digest_of, schema_of_text

MAGIC = 1
ID_LIMIT = 2**31 - 1  # of ids and versions
MODES = ("READWRITE", "READONLY")

Pair = tuple[bytes, bytes | None]
"""Key and value of a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A schema under a subject and version, with the id that stands in the frames of its values."""

    subject: str
    version: int
    id: int
    schema: str
    kind: str = AVRO
    is_deleted: bool = False
    _digest: bytes | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def digest(self) -> bytes:
        """`digest_of` its schema, made once: a registry looks for a schema among all versions of a subject."""
        found = self._digest
        if found is None:
            found = digest_of(self.parsed)
            object.__setattr__(self, "_digest", found)
        return found

    @property
    def parsed(self) -> Any:
        """The schema itself: JSON values of Avro, or a JsonSchema."""
        return schema_of_text(self.schema, self.kind)

    def key(self) -> bytes:
        """Key of its record, byte for byte as Confluent's registry writes it."""
        return _key("SCHEMA", subject=self.subject, version=self.version, magic=MAGIC)

    def value(self) -> bytes:
        """Value of its record."""
        value = {
            "subject": self.subject,
            "version": self.version,
            "id": self.id,
            "schema": self.schema,
            "deleted": self.is_deleted,
        }
        if self.kind != AVRO:
            value["schemaType"] = self.kind
        return _json(value)

    def deleted(self) -> Registration:
        """The same, deleted."""
        return replace(self, is_deleted=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionGone:
    """A version that was taken away for good."""

    subject: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectDeleted:
    """All versions of a subject up to this one were deleted."""

    subject: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """A subject that was taken away for good."""

    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSet:
    """What a subject (None: every one) asks of its next version; None: nothing of its own."""

    subject: str | None
    level: Level | None

    def pair(self) -> Pair:
        """Its record."""
        value = None if self.level is None else _json({"compatibilityLevel": self.level.value})
        return _key("CONFIG", subject=self.subject, magic=0), value


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeSet:
    """Whether a subject (None: every one) takes new versions; None: nothing of its own."""

    subject: str | None
    mode: str | None

    def pair(self) -> Pair:
        """Its record."""
        value = None if self.mode is None else _json({"mode": self.mode})
        return _key("MODE", subject=self.subject, magic=0), value


SchemaRecord = Registration | VersionGone | SubjectDeleted | Cleared | LevelSet | ModeSet


def read_record(key: bytes | None, value: bytes | None) -> SchemaRecord | None:
    """What a record says; None where it says nothing to us, or is broken: another's JSON or types, texts that are no
    UTF-8, numbers that are no ids, a schema that is nested too deeply."""
    try:
        address = json.loads(key or b"")
        said = json.loads(value) if value is not None else None
        kind, subject = address["keytype"], address.get("subject")
        if kind == "CONFIG":
            level = None if said is None else Level(said["compatibilityLevel"])
            return LevelSet(subject=None if subject is None else _text(subject), level=level)
        if kind == "MODE":
            mode = None if said is None else _text(said["mode"])
            return ModeSet(subject=None if subject is None else _text(subject), mode=mode)
        if kind == "SCHEMA":
            return _read_schema(_text(subject), _number(address["version"]), said)
        if kind == "DELETE_SUBJECT" and said is not None:
            return SubjectDeleted(subject=_text(subject), version=_number(said["version"]))
        return Cleared(subject=_text(subject)) if kind == "CLEAR_SUBJECT" and said is not None else None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _read_schema(subject: str, version: int, said: Any) -> Registration | VersionGone | None:
    if said is None:
        return VersionGone(subject=subject, version=version)
    kind = said.get("schemaType") or AVRO
    if kind not in KINDS:
        return None
    text = _text(said["schema"])
    schema = schema_of_text(text, kind)
    check_depth(schema.value if isinstance(schema, JsonSchema) else schema)
    return Registration(
        subject=subject,
        version=version,
        id=_number(said["id"]),
        schema=text,
        kind=kind,
        is_deleted=bool(said.get("deleted")),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.100} is no text")
    value.encode()  # half characters ("\ud800") can be told to nobody
    return value


def _number(value: Any) -> int:
    number = int(value)
    if not 0 <= number <= ID_LIMIT:
        raise ValueError(f"{number} is no id and no version")
    return number


def _key(kind: str, **fields: Any) -> bytes:
    return _json({"keytype": kind, **fields})


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
