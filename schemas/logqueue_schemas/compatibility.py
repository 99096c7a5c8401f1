"""Whether data written with one Avro schema can be read with another. Pure; knows no registry.

The rules are those of the Avro specification 1.12, "Schema Resolution"; names of the kinds of
faults are those of Apache Avro's SchemaCompatibility. Names match without their namespaces, as there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from logqueue_schemas.avro import InvalidSchema, Parsed

MAX_COMPARISONS: Final = 100_000  # of two types, for one pair of schemas
MAX_FAULTS: Final = 50  # told of one pair of schemas
MAX_TEXT_CHARS: Final = 1_000  # of a fault's path and of its detail
ENTRIES_PER_COMPARISON: Final = 64  # of lists (symbols, fields, values of an enum...): to go over them takes as long

_PROMOTIONS: Final = {
    ("int", "long"),
    ("int", "float"),
    ("int", "double"),
    ("long", "float"),
    ("long", "double"),
    ("float", "double"),
    ("string", "bytes"),
    ("bytes", "string"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One reason why a reader cannot read a writer's data. `field` is its path, empty for the schema itself; an item
    of an array or map is `[]`."""

    kind: str
    field: str
    detail: str

    def __str__(self) -> str:
        return f"field {self.field!r}: {self.detail}" if self.field else self.detail


def fault(kind: str, path: str, detail: str) -> Fault:
    """A fault whose texts are not as long as names can be."""
    return Fault(kind=kind, field=path[:MAX_TEXT_CHARS], detail=detail[:MAX_TEXT_CHARS])


def read_faults(*, reader: Parsed, writer: Parsed) -> list[Fault]:
    """Why `reader` cannot read all that `writer` may have written; empty if it can."""
    comparison = _Comparison(reader, writer)
    return comparison.compare(reader.root, writer.root, "")[:MAX_FAULTS]


class _Comparison:
    """One reader beside one writer. Records that contain themselves are compared once, and taken as equal within."""

    def __init__(self, reader: Parsed, writer: Parsed) -> None:
        self._reader = reader
        self._writer = writer
        self._open: set[tuple[str, str]] = set()
        self._left: float = MAX_COMPARISONS

    def compare(self, reader: Any, writer: Any, path: str) -> list[Fault]:
        reader, writer = self._reader.resolve(reader), self._writer.resolve(writer)
        self._left -= 1 + (_entries(reader) + _entries(writer)) / ENTRIES_PER_COMPARISON
        if self._left < 0:
            raise InvalidSchema(f"the schemas take more than {MAX_COMPARISONS:,} comparisons of types")
        if isinstance(writer, list):
            return [fault for branch in writer for fault in self.compare(reader, branch, path)]
        if isinstance(reader, list):
            return self._branch(reader, writer, path)
        kind, written = kind_of(reader), kind_of(writer)
        if kind != written:
            return [] if (written, kind) in _PROMOTIONS else [_mismatch(reader, writer, path)]
        match kind:
            case "record" | "error":
                return self._record(reader, writer, path)
            case "enum":
                return _same_name(reader, writer, path) or _symbols(reader, writer, path)
            case "fixed":
                return _same_name(reader, writer, path) or _size(reader, writer, path) or _scale(reader, writer, path)
            case "array":
                return self.compare(reader["items"], writer["items"], f"{path}[]")
            case "map":
                return self.compare(reader["values"], writer["values"], f"{path}[]")
            case _:
                return _scale(reader, writer, path)

    def _branch(self, reader: list[Any], writer: Any, path: str) -> list[Fault]:
        if any(not self.compare(branch, writer, path) for branch in reader):
            return []
        names = _listed(_name(self._reader.resolve(branch)) for branch in reader)
        return [fault("MISSING_UNION_BRANCH", path, f"it may be {_name(writer)}, read as one of {names}")]

    def _record(self, reader: Any, writer: Any, path: str) -> list[Fault]:
        pair = (reader["name"], writer["name"])
        if pair in self._open:
            return []
        if faults := _same_name(reader, writer, path):
            return faults
        self._open.add(pair)
        try:
            written = {field["name"]: field for field in writer["fields"]}
            return [fault for field in reader["fields"] for fault in self._field(field, written, path)]
        finally:
            self._open.discard(pair)

    def _field(self, field: Any, written: dict[str, Any], path: str) -> list[Fault]:
        where = (f"{path}.{field['name']}" if path else field["name"])[:MAX_TEXT_CHARS]
        aliases = field.get("aliases", ())
        self._left -= len(aliases) / ENTRIES_PER_COMPARISON
        for name in (field["name"], *aliases):
            if name in written:
                return self.compare(field["type"], written[name]["type"], where)
        if "default" in field:
            return []
        detail = "it has no default, and is not in what was written"
        return [fault("READER_FIELD_MISSING_DEFAULT_VALUE", where, detail)]


def kind_of(node: Any) -> str:
    """The type of a resolved schema: `record`, `union`, `long`..."""
    if isinstance(node, list):
        return "union"
    if isinstance(node, str):
        return node
    kind: Any = node["type"]
    return kind if isinstance(kind, str) else kind_of(kind)


def _same_name(reader: Any, writer: Any, path: str) -> list[Fault]:
    if _short(reader["name"]) == _short(writer["name"]):
        return []
    space = reader["name"].rpartition(".")[0]
    aliases = {alias if "." in alias or not space else f"{space}.{alias}" for alias in reader.get("aliases", ())}
    if writer["name"] in aliases:
        return []
    detail = f"the {kind_of(reader)} is called {reader['name']!r}, and {writer['name']!r} where it was written"
    return [fault("NAME_MISMATCH", path, detail)]


def _symbols(reader: Any, writer: Any, path: str) -> list[Fault]:
    known = set(reader["symbols"])
    unknown = [symbol for symbol in writer["symbols"] if symbol not in known]
    if not unknown or "default" in reader:
        return []
    detail = f"the enum {reader['name']!r} has no default, and lacks {_listed(unknown)}"
    return [fault("MISSING_ENUM_SYMBOLS", path, detail)]


def _size(reader: Any, writer: Any, path: str) -> list[Fault]:
    if reader["size"] == writer["size"]:
        return []
    detail = f"the fixed {reader['name']!r} has {reader['size']} bytes, and {writer['size']} where it was written"
    return [fault("FIXED_SIZE_MISMATCH", path, detail)]


def _scale(reader: Any, writer: Any, path: str) -> list[Fault]:
    """Two decimals match if their scales and precisions do (Avro specification, "Decimal")."""
    ours, theirs = _decimal(reader), _decimal(writer)
    if ours is None or theirs is None or ours == theirs:
        return []
    detail = f"it is a decimal of precision {ours[0]} and scale {ours[1]}, and was one of {theirs[0]} and {theirs[1]}"
    return [fault("TYPE_MISMATCH", path, detail)]


def _decimal(node: Any) -> tuple[int, int] | None:
    if not isinstance(node, dict) or node.get("logicalType") != "decimal":
        return None
    return node["precision"], node.get("scale", 0)


def _mismatch(reader: Any, writer: Any, path: str) -> Fault:
    return fault("TYPE_MISMATCH", path, f"{_name(writer)} was written, {_name(reader)} is read")


def _entries(node: Any) -> int:
    """How much there is to go over where a node is compared: symbols, fields, aliases, letters of its name."""
    return sum(len(value) for value in node.values() if isinstance(value, (list, str))) if isinstance(node, dict) else 0


def _name(node: Any) -> str:
    kind = kind_of(node)
    return f"{kind} {node['name']!r}" if isinstance(node, dict) and "name" in node else kind


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _listed(names: Iterable[str], limit: int = 5) -> str:
    shown = list(names)
    return ", ".join(shown[:limit]) + (f" and {len(shown) - limit} more" if len(shown) > limit else "")
