"""Values in Avro whose writer chose the schema: none ends the process, or keeps it busy. Others are read as before."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import fastavro
import pytest
from logqueue_schemas.avro import InvalidSchema, read_schema
from logqueue_schemas.avro_reading import MAX_NESTING, AvroReader, UnboundedValue

LIST = {"type": "record", "name": "L", "fields": [{"name": "n", "type": ["null", "L"]}]}
ENDLESS = b"\xfe" + b"\xff" * 8 + b"\x01"  # 2**63 - 1, as the number of items of a block
NOTHING = {"type": "record", "name": "E0", "fields": []}
DOUBLED = [
    {
        "type": "record",
        "name": f"E{n}",
        "fields": [{"name": "a", "type": f"E{n - 1}"}, {"name": "b", "type": f"E{n - 1}"}],
    }
    for n in range(1, 64)
]
TOWER = [
    {"type": "record", "name": f"T{n}", "fields": [{"name": "a", "type": f"T{n - 1}" if n else "int"}]}
    for n in range(6_000)
]
HINTED = {"type": "array", "items": "null", "__fastavro_parsed": True, "__named_schemas": {}}

HOSTILE = {
    "a list of 60,000 items": (LIST, b"\x02" * 60_000 + b"\x00"),
    "as many items without a byte as there are numbers": ({"type": "array", "items": "null"}, ENDLESS),
    "the same of a schema that says it was checked": (HINTED, ENDLESS),
    "the same of fixed values of no byte": (
        {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}},
        ENDLESS,
    ),
    "the same of records with no field": ({"type": "array", "items": NOTHING}, ENDLESS),
    "records that hold the one before twice": (
        {"type": "record", "name": "R", "fields": [{"name": t["name"], "type": t} for t in (NOTHING, *DOUBLED)]},
        b"",
    ),
    "records that hold the one before, without an end": (
        {"type": "record", "name": "R", "fields": [{"name": t["name"], "type": t} for t in TOWER]},
        b"\x00" * 6_000,
    ),
}

CHILD = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
import msgspec
from logqueue.jobs.avro_decoding import Decoders
from logqueue.jobs.errors import Undecodable
from logqueue.jobs.payload import ArgumentCodec
from logqueue_schemas.framing import frame_header
from logqueue_schemas.job_status import SCHEMA, InvalidStatus, JobStatus, State, StatusCodec

schema, repeated = json.loads(sys.stdin.readline())
body = bytes.fromhex(repeated[0]) * repeated[1] + bytes.fromhex(repeated[2])
codec = ArgumentCodec(msgspec.defstruct("A", [("to", str)]))
try:
    codec.decode(frame_header(7) + body, None, Decoders({7: schema}.get).of)
except Undecodable:
    print("undecodable")

status = {**SCHEMA, "fields": [{"name": "new", "type": schema}, *SCHEMA["fields"]]}
statuses = StatusCodec(1, schema_of={7: status}.get)
own = statuses.encode(
    JobStatus(
        id="a", queue="q", tenant="t", group="g", state=State.DEAD, at=1, topic="t", partition=0, offset=0
    )
)
try:
    statuses.decode(frame_header(7) + body + own[5:])
except InvalidStatus:
    print("invalid status")
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_a_value_without_bounds_is_refused_and_ends_nobody(name: str) -> None:
    schema, body = HOSTILE[name]
    head, times = (body[:1], len(body) - 1) if len(body) > 100 else (b"", 0)
    given = json.dumps([schema, [head.hex(), times, body[times:].hex()]])
    child = subprocess.run([sys.executable, "-c", CHILD], input=given, capture_output=True, text=True, timeout=120)
    assert (child.returncode, child.stdout.split("\n")[:2]) == (0, ["undecodable", "invalid status"]), child.stderr


def written(schema: Any, value: Any) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), value)
    return body.getvalue()


def linked(items: int) -> Any:
    value = None
    for _ in range(items):
        value = {"n": value}
    return value


def test_a_value_of_a_type_within_itself_is_read_as_deep_as_is_said() -> None:
    read = AvroReader(LIST)
    longest = (MAX_NESTING - 1) // 2  # the last one's null is a type too
    assert read(written(LIST, linked(longest))) == linked(longest)
    with pytest.raises(UnboundedValue, match="levels deep"):
        read(written(LIST, linked(longest + 1)))


def test_items_without_bytes_are_read_where_they_are_few() -> None:
    nulls = {"type": "array", "items": "null"}
    assert AvroReader(nulls)(written(nulls, [None] * 900)) == [None] * 900
    with pytest.raises(UnboundedValue, match="too many parts"):
        AvroReader(nulls)(written(nulls, [None] * 2_000))


EVERY_KIND = {
    "type": "record",
    "name": "R",
    "fields": [
        {"name": "nothing", "type": "null"},  # because of it each value is gone over first
        {"name": "flag", "type": "boolean"},
        {"name": "numbers", "type": {"type": "array", "items": "long"}},
        {"name": "half", "type": "float"},
        {"name": "whole", "type": "double"},
        {"name": "raw", "type": "bytes"},
        {"name": "text", "type": "string"},
        {"name": "mark", "type": {"type": "enum", "name": "M", "symbols": ["a", "b"]}},
        {"name": "four", "type": {"type": "fixed", "name": "F", "size": 4}},
        {"name": "map", "type": {"type": "map", "values": ["null", "F", "M"]}},
        {"name": "more", "type": ["null", "R"]},
        {"name": "last", "type": "int"},
    ],
}
ONE = {
    "nothing": None,
    "flag": True,
    "numbers": [0, -1, 300, 2**63 - 1, -(2**63)],
    "half": 0.5,
    "whole": -1.25,
    "raw": b"\x80\xff",
    "text": "é",
    "mark": "b",
    "four": b"abcd",
    "map": {"x": None, "y": b"abcd", "z": "a"},
    "more": None,
    "last": -7,
}


def test_what_is_gone_over_first_is_read_as_fastavro_reads_it_and_broken_off_where_it_ends() -> None:
    value = {**ONE, "more": {**ONE, "numbers": [], "map": {}}}
    read, body = AvroReader(EVERY_KIND), written(EVERY_KIND, value)
    assert read(memoryview(body)) == value
    for end in range(len(body)):
        with pytest.raises(EOFError):
            read(body[:end])


def test_blocks_may_tell_their_size() -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": {"type": "array", "items": LIST}}]}
    assert AvroReader(schema)(b"\x03\x04\x00\x00\x02\x00\x00") == {"a": [{"n": None}] * 3}


@pytest.mark.parametrize("body", [b"\x04", b"\x01", b"\xff" * 11])
def test_a_branch_that_is_not_there_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"no branch|10 bytes"):
        AvroReader(LIST)(body)


def test_a_schema_that_says_it_was_checked_is_checked() -> None:
    with pytest.raises(InvalidSchema):
        read_schema('{"type": "record", "__fastavro_parsed": true, "__named_schemas": {}}')
