"""Arguments as models and as Avro: what is taken, what is refused where, and what stands on the log."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest
from logqueue_schemas.avro import content_id
from logqueue_schemas.framing import frame_header, read_frame
from logqueue_schemas.json_schema import JsonSchema

from logqueue import App
from logqueue.jobs.argument_schema import ArgumentSchema
from logqueue.jobs.avro_arguments import AvroCodec, avro_fields
from logqueue.jobs.avro_decoding import Decoders
from logqueue.jobs.context import JobContext
from logqueue.jobs.errors import InvalidArguments, InvalidDefinition, Undecodable

EMAIL: dict[str, Any] = {
    "type": "record",
    "name": "Email",
    "namespace": "shop",
    "fields": [
        {"name": "to", "type": "string"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["plain", "html"]}, "default": "plain"},
        {"name": "copies", "type": {"type": "array", "items": "string"}, "default": []},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}, "default": 1},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": None},
        {"name": "body", "type": "bytes", "default": "\u00ff"},
        {
            "name": "sender",
            "type": {
                "type": "record",
                "name": "Sender",
                "fields": [{"name": "name", "type": "string"}, {"name": "age", "type": "int", "default": 3}],
            },
            "default": {"name": "us"},
        },
    ],
}


class Address(msgspec.Struct):
    street: str
    number: int = 1


class Order(msgspec.Struct, rename="camel"):
    order_id: int
    address: Address


class Letter(pydantic.BaseModel):
    to: str = pydantic.Field(min_length=3)
    pages: int = 1
    sent_on: date | None = pydantic.Field(default=None, alias="sentOn")


def codec(schema: dict[str, Any], hints: dict[str, Any] | None = None) -> AvroCodec:
    declared = ArgumentSchema(queue="q", type="t", value=schema, content_id=content_id(schema))
    return AvroCodec(
        msgspec.defstruct("Args", avro_fields(declared, hints or {}), forbid_unknown_fields=True, kw_only=True),
        declared,
    )


def lookup(*schemas: dict[str, Any]) -> Any:
    return Decoders({content_id(schema): schema for schema in schemas}.get).of


def plain(arguments: msgspec.Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(arguments)


def test_a_model_in_the_annotation_is_the_whole_of_the_arguments() -> None:
    app = App("a")

    @app.job("order")
    def order(ctx: JobContext, order: Order) -> int:
        return order.order_id

    sent = order.prepare(order_id=7, address=Address("Elm"))
    assert json.loads(sent.value) == {"orderId": 7, "address": {"street": "Elm", "number": 1}}
    assert order.prepare(Order(7, Address("Elm"))).value == sent.value
    assert order.with_(tenant="t").prepare(Order(7, Address("Elm"))).value == sent.value
    arguments = order.codec.decode(sent.value, None)
    assert arguments == Order(7, Address("Elm"))
    assert order.invoke(None, arguments) == 7  # type: ignore[arg-type]
    assert order.codec.decode_json(order.codec.encode_json(arguments)) == arguments
    assert "orderId" in order.args_schema["$defs"]["Order"]["properties"]


def test_a_keyword_only_model_stays_one_argument_of_its_name() -> None:
    app = App("a")

    @app.job("order")
    def order(*, order: Order) -> None: ...

    sent = order.prepare(order=Order(7, Address("Elm")))
    assert set(json.loads(sent.value)) == {"order"}


def test_a_pydantic_model_is_checked_by_its_own_rules_and_stands_under_its_aliases() -> None:
    app = App("a")

    @app.job("letter", arguments=Letter)
    def write(letter):  # type: ignore[no-untyped-def]
        return letter

    sent = write.prepare(to="Ann", sentOn="2026-01-02")
    assert json.loads(sent.value) == {"to": "Ann", "pages": 1, "sentOn": "2026-01-02"}
    assert write.prepare(Letter(to="Ann", sentOn=date(2026, 1, 2))).value == sent.value
    arguments = write.codec.decode(sent.value, "application/json")
    assert write.invoke(None, arguments) == Letter(to="Ann", sentOn=date(2026, 1, 2))  # type: ignore[arg-type]
    assert write.codec.decode_json(write.codec.encode_json(arguments)) == arguments
    with pytest.raises(InvalidArguments) as refused:
        write.prepare(to="A")
    assert refused.value.field == "to"
    with pytest.raises(InvalidArguments, match="not both"):
        write.prepare(Letter(to="Ann"), to="Bob")
    with pytest.raises(InvalidArguments, match="are a Letter"):
        write.prepare(7)
    with pytest.raises(InvalidArguments):
        write.codec.decode(b'{"to":"A"}', None)
    with pytest.raises(Undecodable):
        write.codec.decode(b'{"to"', None)
    assert write.args_schema["properties"]["to"]["minLength"] == 3


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"order_id": 7}, "address"),
        ({"order_id": 7, "address": Address("Elm"), "x": 1}, "x"),
        ({"order_id": "x", "address": Address("Elm")}, "orderId"),
    ],
)
def test_what_a_struct_refuses_is_named(arguments: dict[str, Any], field: str) -> None:
    app = App("a")

    @app.job("order")
    def order(order: Order) -> None: ...

    with pytest.raises(InvalidArguments) as refused:
        order.prepare(**arguments)
    assert refused.value.field == field


def test_models_are_limited_and_unique_by_their_fields() -> None:
    from logqueue import Unique

    app = App("a")

    @app.job("letter", unique=Unique(fields=["to"]))
    def write(letter: Letter) -> None: ...

    unique = write.unique
    assert unique is not None
    places = [
        unique.place("letter", "t", Letter(to=to, pages=pages)) for to, pages in (("Ann", 1), ("Ann", 2), ("Bob", 1))
    ]
    assert places[0] == places[1] != places[2]
    with pytest.raises(InvalidDefinition, match="none of its arguments to, pages, sent_on"):
        app.job("third", unique=Unique(fields=["x"]), arguments=Letter)(lambda letter: None)  # type: ignore[misc]


def test_arguments_that_cannot_be_declared_are_refused(tmp_path: Path) -> None:
    class Listed(msgspec.Struct, array_like=True):
        n: int

    class Taken(msgspec.Struct):
        tenant: str

    app = App("a")
    not_avro = tmp_path / "x.avsc"
    not_avro.write_text('{"type": "recrod"}')
    bare = tmp_path / "y.avsc"
    bare.write_text('"string"')
    good = tmp_path / "z.avsc"
    good.write_text(json.dumps(EMAIL))
    for given, handler, message in [
        (int, lambda n: n, "no pydantic or msgspec model"),
        (Letter, lambda: None, "takes one parameter"),
        (Letter, lambda a, b: None, "takes one parameter"),
        (Listed, lambda n: n, "array_like"),
        (Taken, lambda n: n, "'tenant'"),
        ("email.json", lambda n: n, "no name of an .avsc file"),
        ("missing.avsc", lambda n: n, "there is no schema file"),
        (not_avro, lambda n: n, "not an Avro schema"),
        (bare, lambda n: n, "are an Avro record"),
        (good, lambda to, more: None, "'more' is no field"),
        (good, lambda to: None, "no parameter for the field 'kind'"),
    ]:
        with pytest.raises(InvalidDefinition, match=message):
            app.job("t", arguments=given)(handler)  # type: ignore[arg-type,var-annotated]
    assert not app.jobs


def test_avro_arguments_are_framed_and_come_back_as_they_were() -> None:
    one = codec(EMAIL)
    given = {
        "to": "Ann",
        "price": Decimal("12.50"),
        "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "sender": {"name": "me"},
        "copies": ["Bob"],
    }
    value = one.encode(given)
    assert read_frame(value)[0] == content_id(EMAIL)
    read = one.decode(value, "application/avro", lookup(EMAIL))
    expected = {**given, "kind": "plain", "day": date(1970, 1, 2), "body": b"\xff", "sender": {"name": "me", "age": 3}}
    assert plain(read) == expected
    assert one.decode_json(one.encode_json(read)) == read


def test_what_an_older_sender_did_not_know_has_its_default_as_a_native_value() -> None:
    small = {**EMAIL, "fields": [field for field in EMAIL["fields"] if field["name"] in ("to", "price")]}
    value = codec(small).encode({"to": "Ann", "price": Decimal(1)})
    read = plain(codec(EMAIL).decode(value, None, lookup(small)))
    assert read["body"] == b"\xff"
    assert read["day"] == date(1970, 1, 2)
    assert read["sender"] == {"name": "us", "age": 3}
    assert plain(codec(EMAIL).decode_json(b'{"to":"Ann","price":"1"}')) == read


def test_what_a_newer_sender_added_is_passed_over() -> None:
    wide = {**EMAIL, "fields": [*EMAIL["fields"], {"name": "extra", "type": "string"}]}
    value = codec(wide).encode({"to": "Ann", "price": Decimal(1), "extra": "x"})
    assert plain(codec(EMAIL).decode(value, None, lookup(wide)))["to"] == "Ann"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"price": Decimal(1)}, "to"),
        ({"to": 7, "price": Decimal(1)}, "to"),
        ({"to": "Ann", "price": Decimal(1), "x": 1}, "x"),
        ({"to": "Ann", "price": Decimal(1), "kind": "other"}, "kind"),
        ({"to": "Ann", "price": Decimal("1.234")}, None),
        ({"to": "Ann", "price": Decimal(1), "sender": {"age": 1}}, None),
        ({"to": object(), "price": Decimal(1)}, None),
    ],
)
def test_what_the_schema_refuses_is_refused_when_sending(arguments: dict[str, Any], field: str | None) -> None:
    with pytest.raises(InvalidArguments) as refused:
        codec(EMAIL).encode(arguments)
    assert field is None or refused.value.field == field


def test_numbers_beyond_the_schemas_type_are_refused_in_json_too() -> None:
    one = codec({"type": "record", "name": "N", "fields": [{"name": "n", "type": "int"}]})
    assert plain(one.decode_json(b'{"n":1}')) == {"n": 1}
    with pytest.raises(InvalidArguments) as refused:
        one.decode_json(b'{"n":2147483648}')
    assert refused.value.field == "n"


def test_an_annotation_gives_a_nested_record_its_class() -> None:
    class Sender(msgspec.Struct):
        name: str
        age: int

    one = codec(EMAIL, {"sender": Sender})
    value = one.encode({"to": "Ann", "price": Decimal(1), "sender": Sender("me", 4)})
    assert plain(one.decode(value, None, lookup(EMAIL)))["sender"] == Sender("me", 4)


def test_schemas_that_contain_themselves_and_mixed_unions_are_taken() -> None:
    tree = {
        "type": "record",
        "name": "Tree",
        "fields": [
            {"name": "value", "type": ["int", "string", "bytes", "boolean"]},
            {"name": "left", "type": ["null", "Tree"], "default": None},
        ],
    }
    one = codec(tree)
    given = {"value": b"x", "left": {"value": "y", "left": None}}
    assert plain(one.decode(one.encode(given), None, lookup(tree))) == given
    with pytest.raises(InvalidArguments):
        one.encode({"value": 1.5})


def test_broken_avro_is_undecodable() -> None:
    one = codec(EMAIL)
    value = one.encode({"to": "Ann", "price": Decimal(1)})
    with pytest.raises(Undecodable):
        one.decode(value[:9], None, lookup(EMAIL))
    with pytest.raises(Undecodable, match="not registered"):
        one.decode(value, None, lookup())


def test_framed_json_is_taken_as_bare_json_is() -> None:
    known = Decoders({7: JsonSchema({"type": "object"})}.get).of
    mail, frame = codec(EMAIL), frame_header(7)
    assert mail.decode(frame + b'{"to":"Ann","price":"1.25"}', None, known).to == "Ann"
    with pytest.raises(InvalidArguments, match="to"):
        mail.decode(frame + b'{"to":7,"price":"1.25"}', None, known)
    with pytest.raises(InvalidArguments, match="no Avro form"):
        mail.decode(frame + b'{"to":"Ann","price":"1.255"}', None, known)
    with pytest.raises(Undecodable, match="not JSON"):
        mail.decode(frame + b"{", None, known)


def test_a_registered_schema_that_cannot_be_used_makes_its_values_undecodable_and_ends_nobody() -> None:
    referring = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "com.example.Elsewhere"}]}
    with pytest.raises(Undecodable, match="cannot be used"):
        codec(EMAIL).decode(frame_header(8) + b"x", None, Decoders({8: referring}.get).of)
