"""Whether every document of one JSON Schema is one of another. Pure; knows no registry.

The answer is on the safe side: what cannot be compared (other keywords than below, references out of a schema) is a
fault unless both say the same. As in Confluent's registry an optional property that is added to an open object is a
fault, since older documents may have anything under its name; `"additionalProperties": false` closes an object.
Keywords are those of JSON Schema 2020-12 and draft 7 (core, applicators, validation).
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from logqueue_schemas.avro import InvalidSchema
from logqueue_schemas.compatibility import ENTRIES_PER_COMPARISON, MAX_COMPARISONS, MAX_FAULTS, MAX_TEXT_CHARS, Fault
from logqueue_schemas.compatibility import fault as _fault
from logqueue_schemas.json_schema import ANYTHING, JsonSchema, Node

_TYPES: Final = frozenset({"null", "boolean", "object", "array", "number", "integer", "string"})
_ASSERT_NOTHING: Final = {
    "$anchor",
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "$vocabulary",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "examples",
    "format",
    "readOnly",
    "title",
    "writeOnly",
}
_LOWER: Final = {"minimum": "number", "exclusiveMinimum": "number", "minLength": "string", "minItems": "array"}
_LOWER["minProperties"] = "object"
_UPPER: Final = {name.replace("min", "max").replace("Min", "Max"): type_ for name, type_ in _LOWER.items()}
_COMPARED: Final = {
    "type",
    "enum",
    "const",
    "required",
    "properties",
    "additionalProperties",
    "prefixItems",
    "items",
    "anyOf",
    "oneOf",
    "allOf",
    *_LOWER,
    *_UPPER,
}
_OF_OBJECTS: Final = frozenset({"properties", "additionalProperties", "patternProperties", "unevaluatedProperties"})
_OF_ARRAYS: Final = frozenset({"prefixItems", "items", "additionalItems", "unevaluatedItems"})
_GROUPS: Final = (
    frozenset({"if", "then", "else"}),
    frozenset({"contains", "minContains", "maxContains"}),
    _OF_OBJECTS,
    _OF_ARRAYS,
)
"""Keywords whose meaning hangs on one another: where one of a group cannot be compared, all have to be the same."""


def json_faults(*, reader: JsonSchema, writer: JsonSchema) -> list[Fault]:
    """Why `reader` would not take all that `writer` takes; empty if it does. InvalidSchema: too large to compare."""
    try:
        return _Inclusion(reader, writer).faults(reader.value, writer.value, "")[:MAX_FAULTS]
    except RecursionError:
        raise InvalidSchema("the schemas are nested too deeply to be compared") from None


class _Words:
    """What keywords say, made once for each value of the two documents: a schema is met at each reference to it."""

    def __init__(self) -> None:
        self._left: float = MAX_COMPARISONS
        # By the identity of values, which the documents hold.
        self._texts: dict[int, str] = {}
        self._values: dict[int, frozenset[str]] = {}
        self._types: dict[int, frozenset[str]] = {}

    def spend(self, entries: int) -> None:
        """InvalidSchema where so many entries of lists and objects are too many."""
        self._left -= entries / ENTRIES_PER_COMPARISON
        if self._left < 0:
            raise InvalidSchema(f"the schemas take more than {MAX_COMPARISONS:,} comparisons")

    def text(self, value: Any) -> str:
        """A value as JSON."""
        known = self._texts.get(id(value))
        if known is None:
            known = self._texts[id(value)] = json.dumps(value, sort_keys=True)
        self.spend(len(known) // ENTRIES_PER_COMPARISON)
        return known

    def values(self, node: Mapping[str, Any]) -> frozenset[str] | None:
        """The values of `enum` or `const`, as JSON; None: it is not bound to any."""
        if "const" in node:
            return frozenset([self.text(node["const"])])
        if "enum" not in node:
            return None
        values = node["enum"]
        known = self._values.get(id(values))
        if known is None:
            known = self._values[id(values)] = frozenset(map(self.text, values))
        return known

    def types(self, node: Mapping[str, Any]) -> frozenset[str]:
        """The types that a value may have."""
        said = node.get("type")
        if said is not None:
            return frozenset([said] if isinstance(said, str) else said)
        if "const" in node:
            return frozenset([_type_of(node["const"])])
        if "enum" not in node:
            return _TYPES
        values = node["enum"]
        known = self._types.get(id(values))
        if known is None:
            known = self._types[id(values)] = frozenset(map(_type_of, values))
        return known

    def may_be(self, node: Node, type_: str) -> bool:
        """Whether a value may have a type."""
        if isinstance(node, bool):
            return node
        types = self.types(node)
        return type_ in types or (type_ == "integer" and "number" in types)

    def told(self, node: Mapping[str, Any]) -> str:
        """The types in words."""
        return " or ".join(sorted(self.types(node)))


class _Inclusion:
    """One reader beside one writer. Schemas that contain themselves are compared once, and taken as equal within."""

    def __init__(self, reader: JsonSchema, writer: JsonSchema) -> None:
        self._reader = reader
        self._writer = writer
        self._open: set[tuple[int, int]] = set()
        self._words = _Words()
        self._resolved: dict[tuple[int, int], Node] = {}

    def faults(self, reader: Node, writer: Node, path: str) -> list[Fault]:
        """Why a document of `writer` may be none of `reader`."""
        self._words.spend(ENTRIES_PER_COMPARISON)
        beside = _beside(reader)
        found = self.faults(beside, writer, path) if beside else []
        reader, writer = self._resolve(self._reader, reader), self._resolve(self._writer, writer)
        self._words.spend(_entries(reader) + _entries(writer))
        pair = (id(reader), id(writer))
        if writer is False or reader is True or pair in self._open:
            return found
        if reader is False:
            return [*found, _fault("NOT_ALLOWED", path, "it is not allowed any more")]
        self._open.add(pair)
        try:
            return found + self._compare(reader, ANYTHING if writer is True else writer, path)
        finally:
            self._open.discard(pair)

    def _resolve(self, schema: JsonSchema, node: Node) -> Node:
        """What `JsonSchema.resolve` finds, sought once for each reference."""
        if isinstance(node, bool) or "$ref" not in node:
            return node
        reference = id(schema), id(node["$ref"])
        if reference not in self._resolved:
            self._resolved[reference] = schema.resolve(node)
        return self._resolved[reference]

    def _compare(self, reader: Mapping[str, Any], writer: Mapping[str, Any], path: str) -> list[Fault]:
        for word in ("anyOf", "oneOf"):
            if word in writer:
                return [fault for each in self._branches(writer, word) for fault in self.faults(reader, each, path)]
        if "allOf" in writer:  # it takes no more than any of its parts does
            return min((self.faults(reader, each, path) for each in self._branches(writer, "allOf")), key=len)
        found = [fault for part in reader.get("allOf", ()) for fault in self.faults(part, writer, path)]
        for word in ("anyOf", "oneOf"):
            if word in reader:
                found += self._choice(reader[word], writer, path, is_exclusive=word == "oneOf")
        if found or (found := _plain(self._words, reader, writer, path)):
            return found
        return [*self._properties(reader, writer, path), *self._items(reader, writer, path)]

    def _branches(self, writer: Mapping[str, Any], word: str) -> Iterator[Node]:
        """The branches of a combination, each with what stands beside it."""
        beside = {name: value for name, value in writer.items() if name != word}
        for branch in (self._resolve(self._writer, branch) for branch in writer[word]):
            if isinstance(branch, bool):
                yield branch and beside
            elif not beside or any(beside.keys() & group and branch.keys() & group for group in _GROUPS):
                yield branch  # together they would say something else: the branch alone takes more, so it is safe
            else:
                yield beside | dict(branch)

    def _choice(self, branches: list[Node], writer: Mapping[str, Any], path: str, *, is_exclusive: bool) -> list[Fault]:
        """Every type of the writer has to find its branch, and only that one where branches exclude each other."""
        self._words.spend(ENTRIES_PER_COMPARISON * len(branches))
        resolved = [self._resolve(self._reader, branch) for branch in branches]
        for type_ in sorted(self._words.types(writer)):
            one = writer if writer.get("type") == type_ else {**writer, "type": type_}
            taking = [branch for branch in resolved if not self.faults(branch, one, path)]
            if not taking:
                return [_fault("NO_BRANCH", path, f"it may be {self._words.told(one)}, which no branch takes")]
            others = [branch for branch in resolved if branch is not taking[0] and self._words.may_be(branch, type_)]
            if is_exclusive and others:
                return [_fault("NOT_COMPARED", path, f"more than one branch of oneOf may take {self._words.told(one)}")]
        return []

    def _properties(self, reader: Mapping[str, Any], writer: Mapping[str, Any], path: str) -> list[Fault]:
        if "object" not in self._words.types(writer):
            return []
        wanted, had = reader.get("properties", {}), writer.get("properties", {})
        rest, had_rest = reader.get("additionalProperties", True), writer.get("additionalProperties", True)
        added = set(reader.get("required", ())) - set(writer.get("required", ()))
        required = heapq.nsmallest(MAX_FAULTS, added)
        found = [
            _fault("REQUIRED_ADDED", _within(path, name), "it is required, and was not before") for name in required
        ]
        unnamed = True if "patternProperties" in writer else had_rest  # a pattern may speak of any name
        for name, schema in wanted.items():
            where = _within(path, name)
            told = self.faults(schema, had.get(name, unnamed), where)
            if told and name not in had:
                told = [_fault("PROPERTY_ADDED", where, "the object was open before: it may have been there already")]
            found += told
        for name in had.keys() - wanted.keys():
            found += self.faults(rest, had[name], _within(path, name))
        return found + self.faults(rest, had_rest, _within(path, "*"))

    def _items(self, reader: Mapping[str, Any], writer: Mapping[str, Any], path: str) -> list[Fault]:
        if "array" not in self._words.types(writer):
            return []
        wanted, had = reader.get("prefixItems", []), writer.get("prefixItems", [])
        rest, had_rest = reader.get("items", True), writer.get("items", True)
        if isinstance(rest, list) or isinstance(had_rest, list):
            return []  # they are the same: _uncompared
        found: list[Fault] = []
        for place in range(max(len(wanted), len(had))):
            ours = wanted[place] if place < len(wanted) else rest
            theirs = had[place] if place < len(had) else had_rest
            found += self.faults(ours, theirs, f"{path}[{place}]")
        return found + self.faults(rest, had_rest, f"{path}[]")


def _beside(node: Node) -> Node:
    """What stands beside a reference: it counts too (draft 7 passes it over, then more is asked than has to be)."""
    if isinstance(node, bool) or "$ref" not in node:
        return ANYTHING
    return {name: value for name, value in node.items() if name != "$ref" and name not in _ASSERT_NOTHING}


def _entries(node: Node) -> int:
    """How much there is to go over where a node is compared: letters of keywords, what their lists and objects have."""
    if isinstance(node, bool):
        return 0
    return sum(map(len, node)) + sum(len(value) for value in node.values() if isinstance(value, (list, dict)))


def _plain(words: _Words, reader: Mapping[str, Any], writer: Mapping[str, Any], path: str) -> list[Fault]:
    """Faults of the keywords that speak of the value itself."""
    types = words.types(writer)
    if lost := sorted(type_ for type_ in types if not words.may_be(reader, type_)):
        return [_fault("TYPE_CHANGED", path, f"it may be {' or '.join(lost)}, which is not taken")]
    if (allowed := words.values(reader)) is not None:
        had = words.values(writer)
        if had is None:
            return [_fault("ENUM_NARROWED", path, "it was not bound to the values of an enum")]
        if gone := heapq.nsmallest(5, had - allowed):
            return [_fault("ENUM_NARROWED", path, f"it may be {', '.join(gone)}, which the enum lacks")]
    return [*_bounds(reader, writer, path, types), *_uncompared(words, reader, writer, path)]


def _bounds(reader: Mapping[str, Any], writer: Mapping[str, Any], path: str, types: frozenset[str]) -> Iterator[Fault]:
    for name, type_ in {**_LOWER, **_UPPER}.items():
        bound, had, sign = reader.get(name), writer.get(name), 1 if name in _LOWER else -1
        is_of_it = type_ in types or (type_ == "number" and "integer" in types)
        if bound is None or not is_of_it or bound == had or (bound == 0 and name in ("minLength", "minItems")):
            continue
        if isinstance(bound, bool) or had is None or isinstance(had, bool) or sign * had < sign * bound:
            yield _fault("BOUND_NARROWED", path, f"{name} is {bound}, and was {'not bound' if had is None else had}")


def _uncompared(words: _Words, reader: Mapping[str, Any], writer: Mapping[str, Any], path: str) -> Iterator[Fault]:
    text = words.text
    for name in sorted(reader.keys() - _COMPARED - _ASSERT_NOTHING):
        names = next((group for group in _GROUPS if name in group), frozenset({name}))
        if name == "patternProperties":
            names = frozenset({name})  # the others of its group are compared with it in mind
        if any(text(reader.get(one)) != text(writer.get(one)) or "$ref" in text(reader.get(one)) for one in names):
            yield _fault("NOT_COMPARED", path, f"what {name!r} says is not compared, and is not the same in both")
    is_list = isinstance(reader.get("items"), list) or isinstance(writer.get("items"), list)
    if is_list and any(text(reader.get(name)) != text(writer.get(name)) for name in _OF_ARRAYS):
        yield _fault("NOT_COMPARED", path, "a list as 'items' is not compared, and is not the same in both")


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _within(path: str, name: str) -> str:
    return (f"{path}.{name}" if path else name)[:MAX_TEXT_CHARS]
