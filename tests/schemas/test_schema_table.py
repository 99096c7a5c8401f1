"""The schema topic as a table, and registration without a lock."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logqueue_schemas import registry
from logqueue_schemas.avro import content_id
from logqueue_schemas.evolution import Level
from logqueue_schemas.registry import SchemaTable
from logqueue_schemas.schema_records import LevelSet, ModeSet, Registration

Log = list[tuple[bytes | None, bytes | None]]


def schema(name: str) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": []}


def table_of(log: Log) -> SchemaTable:
    table = SchemaTable()
    for key, value in log:
        table.apply(key, value)
    return table


def register(log: Log, seen: int, subject: str, wanted: Any) -> Registration:
    """A writer that read only the first `seen` records before it wrote, then follows the protocol."""
    table = table_of(log[:seen])
    while missing := table.missing(subject, wanted):
        proposal = table.propose(subject, missing[0])
        log.append((proposal.key(), proposal.value()))
        table = table_of(log)
    found = table.find(subject, wanted)
    assert found is not None
    return found


def compacted(log: Log) -> Log:
    return [pair for place, pair in enumerate(log) if pair[0] not in {key for key, _ in log[place + 1 :]}]


def test_records_are_in_confluents_layout() -> None:
    made = Registration(subject="a-value", version=1, id=3, schema='"string"')
    assert made.key() == b'{"keytype":"SCHEMA","subject":"a-value","version":1,"magic":1}'
    assert json.loads(made.value()) == {
        "subject": "a-value",
        "version": 1,
        "id": 3,
        "schema": '"string"',
        "deleted": False,
    }


def test_an_identical_schema_is_registered_once() -> None:
    log: Log = []
    first = register(log, 0, "a", schema("A"))
    again = register(log, 1, "a", {**schema("A"), "doc": "other words"})
    assert first == again
    assert len(log) == 1


def test_a_registration_by_another_registry_is_reused_with_its_id() -> None:
    foreign = Registration(subject="a", version=4, id=12, schema=json.dumps(schema("A")))
    assert table_of([(foreign.key(), foreign.value())]).find("a", schema("A")) == foreign


def test_who_displaces_a_schema_registers_it_again_under_its_id() -> None:
    log: Log = []
    one = register(log, 0, "a", schema("A"))
    two = register(log, 0, "a", schema("B"))  # had not read the first
    assert one.version == two.version == 1
    after = table_of(compacted(log))
    again = after.find("a", schema("A"))
    assert again is not None
    assert (again.version, again.id) == (2, one.id)
    assert after.schema_of(two.id) == schema("B")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("XYZ"), st.floats(0, 1)), max_size=12))
def test_however_writers_race_every_schema_stays_readable_by_its_id(writes: list[tuple[str, str, float]]) -> None:
    log: Log = []
    promised: list[Registration] = []
    for subject, name, share in writes:
        promised.append(register(log, int(share * len(log)), subject, schema(name)))
        for state in (table_of(log), table_of(compacted(log))):
            for made in promised:
                assert state.schema_of(made.id) == json.loads(made.schema)
                assert state.find(made.subject, json.loads(made.schema)) is not None


def test_two_schemas_that_ask_for_the_same_id_get_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "wanted_id", lambda _: 5)
    log: Log = []
    ids = [register(log, len(log), subject, schema(name)).id for subject, name in [("a", "A"), ("b", "B"), ("c", "A")]]
    assert ids == [5, 6, 5]
    log = []
    raced = [register(log, 0, "a", schema("A")).id, register(log, 0, "b", schema("B")).id]
    assert raced == [5, 6], "the id belongs to the record that came first"
    assert table_of(compacted(log)).find("a", schema("A")) is not None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, None),
        (b"x", b"{}"),
        (b"[]", b"{}"),
        (b'{"keytype":"NOOP","magic":0}', None),
        (b'{"keytype":"CONFIG","subject":null,"magic":0}', b'{"compatibilityLevel":"BACKWARD"}'),
        (b'{"keytype":"SCHEMA","subject":"a","version":1,"magic":1}', b"broken"),
        (b'{"keytype":"SCHEMA","subject":"a","version":1,"magic":1}', b'{"id":1,"schema":"{"}'),
        (b'{"keytype":"SCHEMA","subject":"a","version":1,"magic":1}', b'{"id":1,"schemaType":"PROTOBUF","schema":"x"}'),
    ],
)
def test_records_that_are_no_schemas_are_passed_over(key: bytes | None, value: bytes | None) -> None:
    table = table_of([(key, value)])
    assert table.subjects() == []
    assert table.schema_of(1) is None


def nested(levels: int) -> str:
    return '{"type":"array","items":' * levels + '"int"' + "}" * levels


def record(key: dict[str, Any], value: dict[str, Any] | None) -> tuple[bytes, bytes | None]:
    return json.dumps(key).encode(), None if value is None else json.dumps(value).encode()


AT = {"keytype": "SCHEMA", "subject": "a", "version": 1, "magic": 1}
IS = {"subject": "a", "version": 1, "id": 3, "schema": '"long"'}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        record({"keytype": "CONFIG", "subject": ["x"]}, {"compatibilityLevel": "NONE"}),
        record({"keytype": "CONFIG", "subject": 5}, None),
        record({"keytype": "MODE", "subject": {}}, {"mode": "READONLY"}),
        record({"keytype": "MODE", "subject": "a"}, {"mode": "\ud800"}),
        record({**AT, "version": float("inf")}, IS),
        record({**AT, "version": -1}, IS),
        record({**AT, "version": 2**31}, IS),
        record({**AT, "subject": None}, IS),
        record({**AT, "subject": "\ud800"}, IS),
        record(AT, {**IS, "id": float("inf")}),
        record(AT, {**IS, "id": float("nan")}),
        record(AT, {**IS, "id": 2**31}),
        record(AT, {**IS, "schema": '"\ud800"'}),
        record(AT, {**IS, "schema": nested(201)}),
        record(AT, {**IS, "schema": nested(600)}),
        record(AT, {**IS, "schema": nested(600), "schemaType": "JSON"}),
        record(AT, {**IS, "schema": nested(20_000)}),
        record({"keytype": "DELETE_SUBJECT", "subject": "a"}, {"version": float("inf")}),
        record({"keytype": "DELETE_SUBJECT", "subject": ["a"]}, {"version": 1}),
        record({"keytype": "CLEAR_SUBJECT", "subject": ["a"]}, {}),
    ],
)
def test_a_broken_record_changes_nothing_and_ends_no_reader(key: bytes, value: bytes) -> None:
    made = Registration(subject="a", version=1, id=3, schema='"string"')
    log = [(made.key(), made.value()), (key, value), (key, value)]
    table = table_of(log)
    assert list(table.registrations(deleted=True)) == [made]
    assert (table.level("a"), table.level(None), table.mode("a"), table.mode(None)) == (None, None, None, None)
    assert table.find("a", "string") == made


def test_a_schema_as_deep_as_allowed_is_read() -> None:
    made = Registration(subject="a", version=1, id=3, schema=nested(200))
    table = table_of([(made.key(), made.value())])
    assert table.find("a", json.loads(nested(200))) == made


def test_a_deleted_schema_leaves_its_subject_but_not_its_id() -> None:
    made = Registration(subject="a", version=1, id=3, schema='"string"')
    deleted = made.value().replace(b"false", b"true")
    table = table_of([(made.key(), made.value()), (made.key(), deleted)])
    assert table.find("a", "string") is None
    assert table.schema_of(3) == "string"
    assert table_of([(made.key(), made.value()), (made.key(), None)]).subjects() == []


def test_a_version_after_a_deleted_one_has_the_next_number() -> None:
    made = Registration(subject="a", version=1, id=content_id("string"), schema='"string"')
    table = table_of([(made.key(), made.value()), (made.key(), made.deleted().value())])
    assert table.versions("a", deleted=True) == [made.deleted()]
    assert table.find("a", "string", deleted=True) == made.deleted()
    again = table.propose("a", "string")
    assert (again.version, again.id) == (2, made.id)


def test_deleting_a_subject_deletes_up_to_the_version_it_names() -> None:
    log: Log = []
    for name in "ABC":
        register(log, len(log), "a", schema(name))
    log.append((b'{"keytype":"DELETE_SUBJECT","subject":"a","magic":0}', b'{"subject":"a","version":2}'))
    table = table_of(log)
    assert [made.version for made in table.versions("a")] == [3]
    log.append((b'{"keytype":"CLEAR_SUBJECT","subject":"a","magic":0}', b'{"subject":"a"}'))
    assert table_of(log).versions("a", deleted=True) == []


def test_a_displaced_schema_that_is_back_and_then_deleted_does_not_come_back() -> None:
    log: Log = []
    register(log, 0, "a", schema("A"))
    register(log, 0, "a", schema("B"))
    again = table_of(log).find("a", schema("A"))
    assert again is not None
    log.append((again.key(), again.deleted().value()))
    assert table_of(log).missing("a", schema("B")) == []


def test_levels_and_modes_are_kept_until_they_are_taken_back() -> None:
    pairs = [LevelSet(subject="a", level=Level.FULL).pair(), ModeSet(subject=None, mode="READONLY").pair()]
    table = table_of(list(pairs))
    assert (table.level("a"), table.level(None), table.mode(None), table.mode("a")) == (
        Level.FULL,
        None,
        "READONLY",
        None,
    )
    table.apply(*LevelSet(subject="a", level=None).pair())
    table.apply(*ModeSet(subject=None, mode=None).pair())
    assert (table.level("a"), table.mode(None)) == (None, None)


def test_a_level_record_of_confluents_registry_is_read() -> None:
    table = table_of([(b'{"keytype":"CONFIG","subject":null,"magic":0}', b'{"compatibilityLevel":"FORWARD"}')])
    assert table.level(None) is Level.FORWARD
