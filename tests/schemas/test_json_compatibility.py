"""JSON Schemas beside one another: what is called compatible takes every document, and the usual changes are judged."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logqueue_schemas.avro import InvalidSchema
from logqueue_schemas.evolution import Level, check_evolution
from logqueue_schemas.json_compatibility import json_faults
from logqueue_schemas.json_schema import JsonSchema, read_json_schema
from logqueue_schemas.kinds import AVRO, JSON, meaning, read_text, schema_of_text, text_of_schema, wanted_id

OPEN: dict[str, Any] = {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}
CLOSED = {**OPEN, "additionalProperties": False}
CC = {**OPEN["properties"], "cc": {"type": "string"}}
TREE = {"$ref": "#/$defs/T", "$defs": {"T": {"type": "object", "properties": {"l": {"$ref": "#/$defs/T"}}}}}
LIST = {
    "$defs": {"L": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/L"}, {"type": "null"}]}}}},
    "$ref": "#/$defs/L",
}
DEEP: dict[str, Any] = {"type": "string"}
for _ in range(400):
    DEEP = {"type": "array", "items": DEEP}


def faults(reader: Any, writer: Any) -> list[str]:
    return [str(fault) for fault in json_faults(reader=JsonSchema(reader), writer=JsonSchema(writer))]


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        ({**CLOSED, "properties": CC}, CLOSED),
        (OPEN, {**OPEN, "properties": CC}),
        ({**OPEN, "required": []}, OPEN),
        ({**OPEN, "title": "another", "description": "text"}, OPEN),
        ({"type": ["string", "null"]}, {"type": "string"}),
        ({"type": "number"}, {"type": "integer"}),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, {"type": ["string", "null"]}),
        ({"oneOf": [{"type": "null"}, {"type": "string"}]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ({"enum": ["a", "b", "c"]}, {"enum": ["a", "b"]}),
        ({"type": "string"}, {"const": "a"}),
        ({"minimum": 1}, {"type": "integer", "minimum": 2}),
        (
            {"type": "array", "items": {"type": "number"}},
            {"type": "array", "prefixItems": [{"type": "integer"}], "items": False},
        ),
        (TREE, TREE),
        (LIST, LIST),
        (True, OPEN),
        (OPEN, False),
        ({"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^a", "maxLength": 3}),
    ],
)
def test_a_reader_that_takes_all_that_was_written_is_compatible(reader: Any, writer: Any) -> None:
    assert faults(reader, writer) == []


@pytest.mark.parametrize(
    ("reader", "writer", "told"),
    [
        ({**OPEN, "properties": CC}, OPEN, "field 'cc': the object was open before"),
        (CLOSED, {**CLOSED, "properties": CC}, "field 'cc': it is not allowed any more"),
        ({**CLOSED, "properties": CC, "required": ["to", "cc"]}, CLOSED, "field 'cc': it is required"),
        ({**OPEN, "properties": {"to": {"type": "integer"}}}, OPEN, "field 'to': it may be string, which is not taken"),
        ({"type": "integer"}, {"type": "number"}, "number"),
        ({"enum": ["a"]}, {"enum": ["a", "b"]}, 'it may be "b"'),
        ({"enum": ["a"]}, {"type": "string"}, "not bound to the values"),
        ({"type": "string", "maxLength": 3}, {"type": "string"}, "maxLength is 3, and was not bound"),
        ({"minimum": 3}, {"type": "integer", "minimum": 2}, "minimum is 3, and was 2"),
        ({"pattern": "^a"}, {"type": "string"}, "'pattern' says is not compared"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, {"type": "integer"}, "which no branch takes"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, {"type": "integer"}, "more than one branch"),
        ({"items": [{"type": "string"}]}, {"items": [{"type": "null"}]}, "a list as 'items'"),
        ({"$ref": "#/$defs/A", "maxLength": 1, "$defs": {"A": {"type": "string"}}}, {"type": "string"}, "maxLength"),
        (False, True, "not allowed any more"),
        ({"type": "array", "items": {"type": "string"}}, {"type": "array"}, "field '[]'"),
    ],
)
def test_a_reader_that_would_refuse_something_is_told_where(reader: Any, writer: Any, told: str) -> None:
    assert any(told in fault for fault in faults(reader, writer)), faults(reader, writer)


def test_references_out_of_a_schema_and_schemas_beyond_measure_are_refused() -> None:
    for reference in ("https://example.com/s", "#/$defs/none", "#anchor"):
        with pytest.raises(InvalidSchema, match="leads"):
            faults({"$ref": reference}, OPEN)
    for place in ("\u00b2", "9" * 5_000, "-1", ""):
        with pytest.raises(InvalidSchema, match="leads to nothing"):
            faults({"$ref": f"#/anyOf/{place}", "anyOf": [True]}, OPEN)
    with pytest.raises(InvalidSchema, match="itself"):
        faults({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, OPEN)
    with pytest.raises(InvalidSchema, match="deeply"):
        faults(DEEP, DEEP)


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"type": "nope"}', '{"properties": 3}', '"' + "x" * 500_001 + '"'])
def test_what_is_no_json_schema_is_refused_when_it_is_read(text: str) -> None:
    with pytest.raises(InvalidSchema):
        read_json_schema(text)


def test_a_subject_keeps_the_type_of_its_schemas() -> None:
    (conflict,) = check_evolution(JsonSchema(OPEN), [(1, "string")], Level.BACKWARD)
    assert "the schema is of type JSON, the other of AVRO" in str(conflict)
    assert check_evolution(JsonSchema(OPEN), [(1, "string")], Level.NONE) == []
    forward = check_evolution(JsonSchema(OPEN), [(1, JsonSchema(CLOSED))], Level.FULL)
    assert ["version 1 cannot read" in str(one) for one in forward] == [True]


def test_the_same_text_is_another_schema_in_each_type() -> None:
    text = json.dumps({"type": "string"})
    avro, schema = read_text(text, AVRO), read_text(text, JSON)
    assert meaning(avro) != meaning(schema)
    assert wanted_id(avro) != wanted_id(schema)
    assert meaning(read_text('{ "type" : "string" }', JSON)) == meaning(schema)
    assert schema_of_text(text_of_schema(schema), JSON) == schema


names = st.sampled_from(["a", "b"])
leaves = st.one_of(
    st.just({}),
    st.booleans(),
    st.sampled_from(["null", "integer", "number", "string", "boolean"]).map(lambda type_: {"type": type_}),
    st.lists(st.sampled_from(["null", "integer", "string"]), min_size=1, unique=True).map(
        lambda types: {"type": types}
    ),
    st.lists(st.sampled_from([None, 1, "x", True]), min_size=1, unique_by=repr).map(lambda values: {"enum": values}),
    st.integers(0, 2).map(lambda bound: {"minimum": bound}),
    st.integers(0, 2).map(lambda bound: {"type": "string", "maxLength": bound}),
)


def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(names, inner, max_size=2)},
        optional={"required": st.lists(names, unique=True), "additionalProperties": inner},
    )
    arrays = st.fixed_dictionaries(
        {}, optional={"type": st.just("array"), "items": inner, "prefixItems": st.lists(inner, min_size=1, max_size=2)}
    )
    several = st.lists(inner, min_size=1, max_size=2)
    words = st.sampled_from(["anyOf", "oneOf", "allOf"])
    return st.one_of(objects, arrays, st.builds(lambda word, parts: {word: parts}, words, several))


schemas = st.recursive(leaves, grown, max_leaves=4)
documents = st.recursive(
    st.sampled_from([None, True, 0, 1, 2, 1.5, "", "x", "long"]),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "c"]), inner)),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(reader=schemas, writer=schemas, found=st.lists(documents, min_size=5, max_size=20))
def test_what_is_called_compatible_takes_every_document(reader: Any, writer: Any, found: list[Any]) -> None:
    if faults(reader, writer):
        return
    takes, took = jsonschema_rs.validator_for(reader), jsonschema_rs.validator_for(writer)
    for document in found:
        assert takes.is_valid(document) or not took.is_valid(document)


@settings(max_examples=100, deadline=None)
@given(schema=schemas)
def test_a_schema_follows_itself_unless_it_cannot_be_compared(schema: Any) -> None:
    told = [fault.kind for fault in json_faults(reader=JsonSchema(schema), writer=JsonSchema(schema))]
    assert set(told) <= {"NOT_COMPARED", "NO_BRANCH"} or "allOf" in json.dumps(schema)
