"""Status records in Avro, in Confluent framing."""

from __future__ import annotations

import copy
import io
import struct
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logqueue_schemas.avro import content_id, without_logical_types
from logqueue_schemas.framing import InvalidFrame, frame_header, read_frame
from logqueue_schemas.job_status import (
    RANKS,
    SCHEMA,
    TERMINAL,
    InvalidStatus,
    JobStatus,
    State,
    StatusCodec,
    StatusError,
    UnknownSchemaId,
    status_key,
)
from logqueue_schemas.status_decoding import decode_fields

TEXT = st.text(max_size=20)
LONG = st.integers(-(2**63), 2**63 - 1)
INT = st.integers(-(2**31), 2**31 - 1)
STATUSES = st.builds(
    JobStatus,
    id=TEXT,
    queue=TEXT,
    tenant=TEXT,
    group=TEXT,
    state=st.sampled_from(State),
    at=LONG,
    topic=TEXT,
    partition=INT,
    offset=LONG,
    type=st.none() | TEXT,
    shadow=st.booleans(),
    replay=INT,
    attempt=INT,
    rank=INT,
    sequence=LONG,
    created_at=st.none() | LONG,
    started_at=st.none() | LONG,
    finished_at=st.none() | LONG,
    due_at=st.none() | LONG,
    result=st.none() | st.binary(max_size=200),
    error=st.none() | st.builds(StatusError, type=TEXT, message=TEXT, error_class=TEXT),
    worker=st.none() | TEXT,
    details=st.none() | st.binary(max_size=200),
)
CODEC = StatusCodec(7)


def status(**changes: Any) -> JobStatus:
    plain = JobStatus(
        id="j", queue="q", tenant="t", group="g", state=State.QUEUED, at=1, topic="jobs.q", partition=0, offset=5
    )
    return msgspec.structs.replace(plain, **changes)


@given(STATUSES)
def test_a_status_is_read_back_as_written(written: JobStatus) -> None:
    value = CODEC.encode(written)
    assert value[:5] == struct.pack(">bI", 0, 7)
    assert CODEC.decode(value) == written


@given(STATUSES)
def test_other_avro_writers_and_readers_agree_with_ours_byte_for_byte(written: JobStatus) -> None:
    _, body = read_frame(CODEC.encode(written))
    record = msgspec.structs.asdict(written)
    if written.error is not None:
        error = msgspec.structs.asdict(written.error)
        record["error"] = {"type": error["type"], "message": error["message"], "class": error["error_class"]}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, without_logical_types(SCHEMA), record)
    assert bytes(body) == out.getvalue()


def read_by_fastavro(body: bytes) -> JobStatus | None:
    try:
        record: Any = fastavro.schemaless_reader(io.BytesIO(body), without_logical_types(SCHEMA), None)
        error = record.pop("error")
        return JobStatus(
            **{**record, "state": State(record["state"])},
            error=None if error is None else StatusError(error["type"], error["message"], error["class"]),
        )
    except Exception:  # whatever its reading of broken bytes ends in
        return None


def read_by_us(body: bytes) -> JobStatus | None:
    try:
        return CODEC.decode(frame_header(7) + body)
    except InvalidStatus:
        return None


NAMES = [field["name"] for field in SCHEMA["fields"]]
TIME = st.integers(1_700_000_000_000_000, 1_900_000_000_000_000)
ORDINARY = st.builds(
    status,
    id=TEXT,
    tenant=TEXT,
    state=st.sampled_from(State),
    at=TIME,
    sequence=TIME,
    type=st.none() | TEXT,
    shadow=st.booleans(),
    attempt=st.integers(1, 70),
    created_at=st.none() | TIME,
    started_at=st.none() | TIME,
    finished_at=st.none() | TIME,
    due_at=st.none() | TIME,
    offset=st.integers(0, 2**40),
    result=st.none() | st.binary(max_size=200),
    worker=st.none() | TEXT,
    details=st.none() | st.binary(max_size=200),
)


@given(STATUSES | ORDINARY, st.data())
def test_broken_bytes_mean_to_us_what_they_mean_to_other_avro_readers(written: JobStatus, data: st.DataObject) -> None:
    _, view = read_frame(CODEC.encode(written))
    body = bytearray(view)
    for _ in range(data.draw(st.integers(0, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)) | st.just(len(body)))])
    assert read_by_us(cut) == read_by_fastavro(cut)


@given(ORDINARY)
def test_an_ordinary_status_needs_no_fastavro(written: JobStatus) -> None:
    framed = CODEC.encode(written)
    longest = max(len(text.encode()) for text in (written.id, written.tenant, written.type or "", written.worker or ""))
    if longest < 64 and written.attempt < 64:
        fields = decode_fields(framed, 5, tuple(State))
        assert dict(zip(NAMES, fields, strict=True)) == msgspec.structs.asdict(written)


@given(st.binary(max_size=100))
def test_no_bytes_break_reading(value: bytes) -> None:
    for candidate in (value, frame_header(7) + value):
        try:
            CODEC.decode(candidate)
        except InvalidStatus:
            pass


def test_an_error_text_that_utf_8_cannot_hold_does_not_hinder_its_status() -> None:
    read = CODEC.decode(CODEC.encode(status(error=StatusError("OSError", "no file \udcff", "transient"))))
    assert read.error == StatusError("OSError", "no file ?", "transient")


def test_a_truncated_status_is_refused() -> None:
    value = CODEC.encode(status())
    for size in range(len(value)):
        with pytest.raises(InvalidStatus):
            CODEC.decode(value[:size])


def test_a_status_of_another_schema_is_read_through_it() -> None:
    older = copy.deepcopy(SCHEMA)
    older["fields"] = [f for f in older["fields"] if f["name"] not in ("worker", "due_at")]
    newer = copy.deepcopy(SCHEMA)
    newer["fields"].append({"name": "colour", "type": "string", "default": "red"})
    newer["fields"][6]["type"]["symbols"].append("paused")
    schemas = {1: older, 2: newer}
    codec = StatusCodec(7, schema_of=schemas.get)
    plain = msgspec.structs.asdict(status())
    for id_, schema in schemas.items():
        out = io.BytesIO()
        out.write(frame_header(id_))
        fastavro.schemaless_writer(out, fastavro.parse_schema(copy.deepcopy(schema)), {**plain, "colour": "blue"})
        assert codec.decode(out.getvalue()) == status()
    out = io.BytesIO()
    out.write(frame_header(2))
    fastavro.schemaless_writer(out, fastavro.parse_schema(newer), {**plain, "state": "paused"})
    assert codec.decode(out.getvalue()).state is State.UNKNOWN


def test_an_unknown_schema_is_said_to_be_unknown() -> None:
    with pytest.raises(UnknownSchemaId) as unknown:
        CODEC.decode(frame_header(8) + b"x")
    assert unknown.value.schema_id == 8


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x00\x00\x00\x00", b'{"a":1}', b"\x01\x00\x00\x00\x07"])
def test_other_framings_are_refused(value: bytes) -> None:
    with pytest.raises(InvalidFrame):
        read_frame(value)


def test_every_state_has_a_rank_and_a_symbol() -> None:
    symbols = next(f["type"]["symbols"] for f in SCHEMA["fields"] if f["name"] == "state")
    assert symbols == [state.value for state in State]
    assert set(RANKS) == set(State)
    assert {state for state, rank in RANKS.items() if rank == max(RANKS.values())} == TERMINAL


def test_the_fields_of_the_schema_are_those_of_the_value() -> None:
    assert {f["name"] for f in SCHEMA["fields"]} == set(JobStatus.__struct_fields__)
    for field in SCHEMA["fields"]:
        if isinstance(field["type"], list):
            assert field["type"][0] == "null", "optional fields are unions that begin with null"
            assert field["default"] is None


def test_a_newer_status_is_larger() -> None:
    order = [
        status(attempt=1, rank=0),
        status(attempt=1, rank=3, sequence=9),
        status(attempt=1, rank=4),
        status(attempt=2, rank=0),
        status(attempt=2, rank=5),
        status(replay=1, attempt=1, rank=0),
    ]
    assert sorted(order, key=lambda s: s.version) == order


def test_a_shadow_group_has_keys_of_its_own() -> None:
    assert status().key == status_key("j") == b"j"
    assert status(shadow=True).key == status_key("j", group="g") == b"g/j"


def test_the_id_of_a_schema_says_what_it_says() -> None:
    undocumented = copy.deepcopy(SCHEMA)
    del undocumented["doc"]
    assert content_id(SCHEMA) == content_id(undocumented) == content_id(dict(reversed(SCHEMA.items())))
    renamed = {**SCHEMA, "name": "Other"}
    assert content_id(renamed) != content_id(SCHEMA)
    assert 0 < content_id(SCHEMA) <= 2**30
