"""Schemas that a client sends are compared while others wait: whatever they say, it is over soon, or refused."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from logqueue_schemas.avro import MAX_SCHEMA_CHARS, InvalidSchema, read_schema
from logqueue_schemas.compatibility import MAX_TEXT_CHARS
from logqueue_schemas.evolution import Level, check_evolution
from logqueue_schemas.json_schema import JsonSchema, read_json_schema
from logqueue_schemas.registry import SchemaTable

CPU_S = 5.0  # far more than it takes; without a bound it was hours


def symbols(count: int) -> dict[str, Any]:
    return {"type": "enum", "name": "E", "symbols": [f"S{n}" for n in range(count)]}


def holder(fields: int, **more: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": "R",
        "fields": [{"name": f"f{n}", "type": "int", "default": 0} for n in range(fields)],
    } | more


def naming(type_: Any, *, times: int) -> dict[str, Any]:
    """A record whose first field defines a type, and whose others name it."""
    rest = [{"name": f"a{n}", "type": type_["name"]} for n in range(times)]
    return {"type": "record", "name": "Outer", "fields": [{"name": "a", "type": type_}, *rest]}


def referring(schema: Any, *, times: int) -> dict[str, Any]:
    """An object with many properties of one schema."""
    return {"$defs": {"d": schema}, "properties": {f"p{n}": {"$ref": "#/$defs/d"} for n in range(times)}}


def chain(length: int) -> dict[str, Any]:
    links: dict[str, Any] = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(length)}
    properties = {f"p{n}": {"$ref": "#/$defs/d0"} for n in range(length)}
    return {"$defs": {**links, f"d{length}": {"type": "string"}}, "properties": properties}


LONG = "n" * 200_000
AVRO = {
    "an enum of many symbols, in many fields": (naming(symbols(10_000), times=9_000),) * 2,
    "a record of many fields, in many fields": (naming(holder(0), times=9_000), naming(holder(5_000), times=5_000)),
    "fields of many names": (
        naming(
            holder(1) | {"fields": [{"name": "x", "type": "int", "default": 0, "aliases": ["y"] * 60_000}]}, times=7_000
        ),
        naming(holder(1), times=7_000),
    ),
    "a name of many letters": (
        naming(holder(0, name="a." + LONG, namespace=""), times=1)
        | {
            "fields": [
                {"name": "a", "type": holder(0, name=LONG)},
                *({"name": f"a{n}", "type": {"type": "array", "items": "int"}} for n in range(3)),
            ]
        },
        naming(holder(0), times=3),
    ),
}
JSON = {
    "an enum of many values, at many references": (referring({"enum": list(range(20_000))}, times=10_000),) * 2,
    "an enum that lost its values": (
        referring({"enum": list(range(20_000, 40_000))}, times=8_000),
        referring({"enum": list(range(20_000))}, times=8_000),
    ),
    "one large value": (referring({"const": list(range(20_000))}, times=10_000),) * 2,
    "one large word that is not compared": (referring({"x": list(range(20_000))}, times=10_000),) * 2,
    "one large word that is not the same": (
        referring({LONG: 1}, times=8_000),
        referring({LONG: 2}, times=8_000),
    ),
    "many names that are required": (
        referring({"required": [f"r{n}" for n in range(20_000)]}, times=8_000),
        referring({"required": []}, times=8_000),
    ),
    "references to references": (chain(6_000),) * 2,
}


@pytest.mark.parametrize("name", [*AVRO, *JSON])
def test_whatever_two_schemas_say_they_are_soon_compared_or_refused(name: str) -> None:
    new, old = (AVRO | JSON)[name]
    texts = json.dumps(new, separators=(",", ":")), json.dumps(old, separators=(",", ":"))
    assert max(map(len, texts)) <= MAX_SCHEMA_CHARS
    new, old = map(read_json_schema if name in JSON else read_schema, texts)
    began = time.process_time()
    try:
        conflicts = check_evolution(new, [(1, old)], Level.FULL)
    except InvalidSchema as refused:
        assert "more than" in str(refused)
    else:
        assert all(len(each.fault.field) + len(each.fault.detail) <= 2 * MAX_TEXT_CHARS for each in conflicts)
    assert time.process_time() - began < CPU_S


def test_an_enum_of_a_few_hundred_symbols_is_compared_in_a_thousand_fields() -> None:
    countries = naming(symbols(250), times=1_000)
    assert check_evolution(countries, [(1, countries)], Level.FULL) == []
    codes = JsonSchema(referring({"enum": [f"S{n}" for n in range(250)]}, times=1_000))
    assert check_evolution(codes, [(1, codes)], Level.FULL) == []


def test_a_schema_is_sought_among_many_large_versions_without_reading_them_again() -> None:
    table = SchemaTable()
    for number in range(50):
        made = table.propose("s", holder(2_500, name=f"R{number}"))
        table.apply(made.key(), made.value())
    began_s = time.process_time()
    for _ in range(50):
        assert table.find("s", holder(0, name="Other")) is None
    assert time.process_time() - began_s < 2.0, "reading them all each time takes 13 s"
    found = table.find("s", holder(2_500, name="R7"))
    assert found is not None
    assert found.version == 8
