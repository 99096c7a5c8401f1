"""Rules of evolution, held to fastavro's own resolution of data."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest
from fastavro.utils import generate_many
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from logqueue_schemas.avro import InvalidSchema, parse
from logqueue_schemas.compatibility import read_faults
from logqueue_schemas.evolution import Level, check_evolution

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
SAMPLES = 60


def record(*fields: dict[str, Any], name: str = "R", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def field(name: str, type_: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": type_, **more}


def faults(reader: Any, writer: Any) -> list[tuple[str, str]]:
    return [(f.kind, f.field) for f in read_faults(reader=parse(reader), writer=parse(writer))]


def reads_samples(reader: Any, writer: Any) -> list[bool]:
    """Whether fastavro reads each of some generated data of the writer with the reader."""
    written, read = fastavro.parse_schema(writer), fastavro.parse_schema(reader)
    answers = []
    for datum in generate_many(written, SAMPLES):
        body = io.BytesIO()
        fastavro.schemaless_writer(body, written, _as_ascii(datum))
        body.seek(0)
        try:
            fastavro.schemaless_reader(body, written, read)
            answers.append(True)
        except Exception:
            answers.append(False)
    return answers


def _as_ascii(datum: Any) -> Any:
    """Bytes that may be read as text: that not all are is no matter of the schema."""
    if isinstance(datum, bytes):
        return bytes(byte & 0x7F for byte in datum)
    if isinstance(datum, dict):
        return {name: _as_ascii(value) for name, value in datum.items()}
    return [_as_ascii(value) for value in datum] if isinstance(datum, list) else datum


@st.composite
def types(draw: st.DrawFn, depth: int, names: list[str]) -> Any:
    kinds = ["primitive"] * 4 + (["array", "map", "record", "enum", "fixed", "union"] if depth else ["enum"])
    match draw(st.sampled_from(kinds)):
        case "primitive":
            return draw(st.sampled_from(PRIMITIVES))
        case "array":
            return {"type": "array", "items": draw(types(depth - 1, names))}
        case "map":
            return {"type": "map", "values": draw(types(depth - 1, names))}
        case "enum":
            symbols = draw(st.lists(st.sampled_from("ABCD"), min_size=1, max_size=3, unique=True))
            made = {"type": "enum", "name": draw(_name(names, "E")), "symbols": symbols}
            return {**made, "default": symbols[0]} if draw(st.booleans()) else made
        case "fixed":
            return {"type": "fixed", "name": draw(_name(names, "F")), "size": draw(st.integers(1, 3))}
        case "union":
            return draw(st.lists(st.sampled_from(PRIMITIVES), min_size=1, max_size=3, unique=True))
        case _:
            return draw(records(depth, names))


def _name(names: list[str], kind: str) -> st.SearchStrategy[str]:
    """Names in the order of their use, so that two schemas of like shape have like names.

    A kind has names of its own: fastavro reads an enum as a fixed of the same name, which the specification forbids.
    """
    names.append(f"{kind}{len(names)}")
    return st.just(names[-1])


@st.composite
def records(draw: st.DrawFn, depth: int, names: list[str]) -> Any:
    own = draw(_name(names, "R"))
    fields = []
    for name in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)):
        type_ = draw(types(depth - 1, names))
        one = field(name, type_)
        if isinstance(type_, str) and draw(st.booleans()):
            one["default"] = _DEFAULTS[type_]
        fields.append(one)
    return record(*fields, name=own)


_DEFAULTS = {
    "null": None, "boolean": True, "int": 1, "long": 1, "float": 1.5, "double": 1.5, "bytes": "x", "string": "x",
}  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_is_called_compatible_is_read_by_fastavro(data: st.DataObject) -> None:
    writer, reader = data.draw(records(2, [])), data.draw(records(2, []))
    assume(not faults(reader, writer))
    assert all(reads_samples(reader, writer))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_called_incompatible_fails_for_some_data_in_fastavro(data: st.DataObject) -> None:
    """A field at a time: what is wrong then shows in any data, or in one of few branches."""
    written = data.draw(types(1, []))
    read = data.draw(types(1, []))
    writer, reader = record(field("a", written)), record(field("a", read))
    found = faults(reader, writer)
    assert (not found) == all(reads_samples(reader, writer))


@given(records(2, []))
@settings(max_examples=60, deadline=None)
def test_every_schema_reads_itself(schema: Any) -> None:
    assert faults(schema, schema) == []


@pytest.mark.parametrize("written", PRIMITIVES)
@pytest.mark.parametrize("read", PRIMITIVES)
def test_promotions_are_those_that_fastavro_reads(written: str, read: str) -> None:
    writer, reader = record(field("a", written)), record(field("a", read))
    assert (faults(reader, writer) == []) == all(reads_samples(reader, writer))


def test_a_field_without_a_default_cannot_be_added() -> None:
    old, new = record(field("to", "string")), record(field("to", "string"), field("cc", "string"))
    assert faults(new, old) == [("READER_FIELD_MISSING_DEFAULT_VALUE", "cc")]
    assert faults(old, new) == []


def test_a_renamed_field_needs_its_old_name_as_an_alias() -> None:
    old = record(field("to", "string"))
    assert faults(record(field("recipient", "string", aliases=["to"])), old) == []
    assert faults(record(field("recipient", "string")), old) == [("READER_FIELD_MISSING_DEFAULT_VALUE", "recipient")]


def test_names_count_without_their_namespace_and_aliases_with_it() -> None:
    old = record(field("a", "int"), name="mail.v1.Email")
    assert faults(record(field("a", "int"), name="mail.v2.Email"), old) == []
    assert faults(record(field("a", "int"), name="mail.v1.Letter"), old) == [("NAME_MISMATCH", "")]
    assert faults(record(field("a", "int"), name="mail.v1.Letter", aliases=["Email"]), old) == []


def test_a_symbol_more_needs_a_default_of_the_reader() -> None:
    old = {"type": "enum", "name": "E", "symbols": ["A"]}
    new = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
    assert faults(record(field("e", old)), record(field("e", new))) == [("MISSING_ENUM_SYMBOLS", "e")]
    assert faults(record(field("e", {**old, "default": "A"})), record(field("e", new))) == []


def test_paths_lead_into_records_arrays_and_maps() -> None:
    inner = record(field("zip", "string"), name="Address")
    other = record(field("zip", "int"), name="Address")
    old = record(field("homes", {"type": "array", "items": {"type": "map", "values": inner}}))
    new = record(field("homes", {"type": "array", "items": {"type": "map", "values": other}}))
    assert faults(new, old) == [("TYPE_MISMATCH", "homes[][].zip")]


def test_a_record_that_contains_itself_is_compared_once() -> None:
    def tree(leaf: str) -> dict[str, Any]:
        return record(field("value", leaf), field("next", ["null", "Tree"], default=None), name="Tree")

    assert faults(tree("long"), tree("int")) == []
    assert faults(tree("int"), tree("long")) == [("TYPE_MISMATCH", "value")]


def test_decimals_of_another_scale_are_other_numbers() -> None:
    def money(scale: int) -> dict[str, Any]:
        return record(field("price", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": scale}))

    assert faults(money(2), money(2)) == []
    assert faults(money(3), money(2)) == [("TYPE_MISMATCH", "price")]


def test_a_field_that_comes_back_with_another_type_passes_step_by_step_but_not_transitively() -> None:
    v1 = record(field("a", "int"), field("b", "string", default=""))
    v2 = record(field("a", "int"))
    v3 = record(field("a", "int"), field("b", "long", default=0))
    older = [(1, v1), (2, v2)]
    assert check_evolution(v3, older, Level.BACKWARD) == []
    [conflict] = check_evolution(v3, older, Level.BACKWARD_TRANSITIVE)
    assert (conflict.version, conflict.is_backward, conflict.fault.field) == (1, True, "b")
    assert str(conflict) == (
        "field 'b': string was written, long is read (the new schema cannot read data of version 1)"
    )


@pytest.mark.parametrize(
    ("level", "may_add_required", "may_drop_required"),
    [
        (Level.NONE, True, True),
        (Level.BACKWARD, False, True),
        (Level.FORWARD, True, False),
        (Level.FULL, False, False),
        (Level.FULL_TRANSITIVE, False, False),
    ],
)
def test_levels_say_who_reads_whom(level: Level, may_add_required: bool, may_drop_required: bool) -> None:
    small, large = record(field("a", "int")), record(field("a", "int"), field("b", "int"))
    assert (check_evolution(large, [(1, small)], level) == []) is may_add_required
    assert (check_evolution(small, [(1, large)], level) == []) is may_drop_required


def test_schemas_that_would_take_too_long_are_refused() -> None:
    """Thirty records, each holding the next twice: two to the thirtieth comparisons."""
    inner: Any = record(field("x", "int"), name="L0")
    for number in range(1, 30):
        inner = record(field("p", inner), field("q", f"L{number - 1}"), name=f"L{number}")
    with pytest.raises(InvalidSchema, match="comparisons"):
        check_evolution(inner, [(1, inner)], Level.BACKWARD)


@pytest.mark.parametrize("schema", [{"type": "record"}, {"type": "nope"}, 7, ["x"], {"name": "R"}])
def test_what_is_no_schema_is_refused_with_a_reason(schema: Any) -> None:
    with pytest.raises(InvalidSchema, match="not an Avro schema"):
        parse(schema)
