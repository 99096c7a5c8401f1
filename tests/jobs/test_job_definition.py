"""Jobs as their handlers declare them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logqueue import App, JobContext, Retry
from logqueue.ids import JobId
from logqueue.jobs.definition import JobDefinition
from logqueue.jobs.errors import InvalidArguments, InvalidDefinition, Undecodable, UnknownJobType
from logqueue.jobs.flow_records import workflow_header
from logqueue.jobs.headers import WORKFLOW


@dataclass
class Address:
    city: str
    zip: int = 0


def context(**changes: Any) -> JobContext:
    values: dict[str, Any] = {
        "job_id": JobId("j1"),
        "type": "a",
        "tenant": "t",
        "queue": "q",
        "group": "g",
        "attempt": 2,
        "max_attempts": 2,
        "replay": 0,
        "replaying": False,
        "created_ms": 1_700_000_000_000,
        "topic": "jobs.q",
        "partition": 0,
        "offset": 0,
        "headers": {},
    }
    return JobContext(**values | changes)


def define(handler: Any, **options: Any) -> JobDefinition[..., Any]:
    return App("shop").job("email.send", **options)(handler)


async def send_email(ctx: JobContext, *, to: str, copies: int = 1, address: Address | None = None) -> dict[str, Any]:
    return {"id": ctx.job_id, "to": to, "copies": copies, "address": address}


def test_a_plain_call_runs_the_function_here() -> None:
    job = define(send_email)
    assert asyncio.run(job(context(), to="a"))["to"] == "a"


def test_the_worker_runs_the_function_with_decoded_arguments() -> None:
    job = define(send_email)
    arguments = job.codec.decode(b'{"to":"a","address":{"city":"Bonn"}}', None)
    result = asyncio.run(job.invoke(context(), arguments))
    assert result == {"id": "j1", "to": "a", "copies": 1, "address": Address("Bonn")}


def test_a_context_names_the_workflow_of_its_job_if_there_is_one() -> None:
    assert context().workflow_id is None
    assert context(headers={WORKFLOW: workflow_header("site-1", "crawl", "shop")}).workflow_id == "site-1"
    assert context(headers={WORKFLOW: b"not/ours"}).workflow_id is None


def test_only_the_callback_adds_nodes_behind_the_callback() -> None:
    job = define(send_email).prepare(to="a")
    of = {name: {WORKFLOW: workflow_header("site-1", name, "shop")} for name in ("crawl", "on-complete")}
    with pytest.raises(InvalidDefinition, match="Nothing comes after 'on-complete'"):
        context(headers=of["crawl"]).add("more", job, after="on-complete")
    assert context(headers=of["on-complete"]).add("more", job, after="on-complete") == "site-1.more"


def test_a_job_adds_no_node_of_another_tenant() -> None:
    job, headers = define(send_email), {WORKFLOW: workflow_header("site-1", "crawl", "shop")}
    with pytest.raises(InvalidDefinition, match="one tenant"):
        context(headers=headers, tenant="acme").add("more", job.prepare(tenant="globex", to="a"))
    for own in (job.prepare(to="a"), job.prepare(tenant="acme", to="a")):
        assert context(headers=headers, tenant="acme").add("more", own) == "site-1.more"


def test_a_handler_without_a_context_is_given_none() -> None:
    def double(*, n: int) -> int:
        return 2 * n

    job = define(double)
    assert not job.takes_context
    assert not job.is_async
    assert job.invoke(context(), job.codec.decode(b'{"n":4}', None)) == 8


def test_the_context_is_known_by_its_name_or_its_type() -> None:
    def by_type(job: JobContext, n: int) -> int:
        return job.attempt + n

    def by_name(ctx, n: int):  # type: ignore[no-untyped-def]
        return ctx.attempt + n

    for handler in (by_type, by_name):
        job = define(handler)
        assert job.invoke(context(), job.codec.decode(b'{"n":4}', None)) == 6


def test_arguments_without_annotations_take_anything() -> None:
    def anything(a, b=None):  # type: ignore[no-untyped-def]
        return a, b

    job = define(anything)
    assert job.invoke(context(), job.codec.decode(b'{"a":[1,{"x":null}]}', None)) == ([1, {"x": None}], None)


def test_a_mutable_default_is_fresh_for_every_job() -> None:
    def collect(*, into: list[int] = []) -> list[int]:  # noqa: B006 - the rule under test
        into.append(1)
        return into

    job = define(collect)
    runs = [job.invoke(context(), job.codec.decode(b"{}", None)) for _ in range(2)]
    assert runs == [[1], [1]]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (b'{"to":1}', "to"),
        (b'{"to":null}', "to"),
        (b"{}", "to"),
        (b'{"to":"a","subject":"x"}', "subject"),
        (b'{"to":"a","copies":"2"}', "copies"),
        (b'{"to":"a","address":{"city":5}}', "address.city"),
        (b'{"to":"a","address":{}}', "address.city"),
        (b"[]", None),
        (b"null", None),
        (b'"a"', None),
    ],
)
def test_wrong_arguments_are_refused_by_field(value: bytes, field: str | None) -> None:
    with pytest.raises(InvalidArguments) as refused:
        define(send_email).codec.decode(value, None)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("value", "content_type"),
    [
        (None, None),
        (b"", None),
        (b"{", None),
        (b"\xff\xfe", None),
        (b'{"to":"\xff"}', None),
        (b'{"to":"a"}', "text/plain"),
        (b'{"to":"a"}', "application/avro"),
        (b"\x00\x00", None),
        (b"\x00\x00\x00\x00\x07\x02a", None),
    ],
)
def test_a_value_that_is_not_what_it_claims_is_undecodable(value: bytes | None, content_type: str | None) -> None:
    with pytest.raises(Undecodable):
        define(send_email).codec.decode(value, content_type)


def test_a_value_nested_too_deeply_is_undecodable() -> None:
    def anything(*, a: Any) -> Any:
        return a

    with pytest.raises(Undecodable, match="nested too deeply"):
        define(anything).codec.decode(b'{"a":' + b"[" * 100_000, None)


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json"]
)
def test_json_goes_by_several_names(content_type: str | None) -> None:
    assert define(send_email).codec.decode(b'{"to":"a"}', content_type) is not None


@given(st.binary(max_size=60))
def test_no_bytes_break_decoding(value: bytes) -> None:
    job = define(send_email)
    try:
        job.codec.decode(value, None, lambda _: None)
    except (InvalidArguments, Undecodable):
        pass


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    number=st.integers(-(2**63), 2**63 - 1),
    text=st.text(),
    items=st.lists(st.floats(allow_nan=False, allow_infinity=False)),
    any_=JSON,
)
def test_what_is_sent_is_what_the_handler_gets(number: int, text: str, items: list[float], any_: Any) -> None:
    def echo(*, number: int, text: str, items: list[float], any_: Any, missing: str = "m") -> tuple[Any, ...]:
        return number, text, items, any_, missing

    job = define(echo)
    try:
        prepared = job.prepare(number=number, text=text, items=items, any_=any_)
    except InvalidArguments:
        assert "\\ud" in ascii([text, any_]), "only lone surrogates have no JSON form"
        return
    result = job.invoke(context(), job.codec.decode(prepared.value, None))
    assert result == (number, text, items, json.loads(json.dumps(any_)), "m")


@pytest.mark.parametrize("arguments", [{"to": object()}, {"to": {1, 2}}, {"to": float("nan")}])
def test_arguments_without_a_json_form_are_refused_when_sent(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArguments):
        define(send_email).prepare(**arguments)


def test_dates_and_structs_travel_as_json() -> None:
    class Item(msgspec.Struct):
        name: str

    def ship(*, item: Item, at: datetime) -> tuple[str, datetime]:
        return item.name, at

    namespace = {**ship.__globals__, "Item": Item}
    ship.__annotations__ = {"item": Item, "at": namespace["datetime"], "return": object}
    job = define(ship)
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    prepared = job.prepare(item=Item("pen"), at=moment)
    assert job.invoke(context(), job.codec.decode(prepared.value, None)) == ("pen", moment)


def positional(a: int, /) -> None: ...
def variadic(*args: int) -> None: ...
def keywords(**kwargs: int) -> None: ...
def takes_tenant(*, tenant: str) -> None: ...
def late_context(a: int, job: JobContext) -> None: ...
def custom_class(*, a: App) -> None: ...
def unresolvable(*, a: "Nowhere") -> None: ...  # type: ignore[name-defined] # noqa: F821, UP037
async def generator(*, a: int) -> AsyncIterator[int]:
    yield a


@pytest.mark.parametrize(
    "handler",
    [positional, variadic, keywords, takes_tenant, late_context, custom_class, unresolvable, generator, Address, 5],
)
def test_a_handler_that_cannot_work_is_refused_where_it_is_declared(handler: Any) -> None:
    with pytest.raises(InvalidDefinition, match=r"Job 'email\.send'"):
        define(handler)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"retry": 5}, {"queue": "No"}, {"retry": {"attempts": 1}}])
def test_an_option_that_cannot_work_is_refused_where_it_is_declared(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidDefinition):
        define(send_email, **options)


@pytest.mark.parametrize("type_", ["", " ", "a\nb", "x" * 256])
def test_a_job_type_is_printable_text(type_: str) -> None:
    with pytest.raises(InvalidDefinition, match="Job type"):
        App("shop").job(type_)(send_email)


def test_declaring_a_type_or_a_queue_twice_is_refused() -> None:
    app = App("shop")
    app.job("a", queue="q")(send_email)
    app.queue("q", order="none")
    with pytest.raises(InvalidDefinition, match="'a' is declared twice"):
        app.job("a")(send_email)
    with pytest.raises(InvalidDefinition, match="'q' is declared twice"):
        app.queue("q")


@pytest.mark.parametrize(
    "options",
    [{"order": "random"}, {"partitions": 0}, {"partitions": True}, {"partitions": 10**6}, {"default_type": ""}],
)
def test_a_queue_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidDefinition):
        App("shop").queue("q", **options)


@pytest.mark.parametrize("name", ["", "a b", "é", "-a", "a" * 101])
def test_an_app_and_a_group_have_names_that_topics_can_carry(name: str) -> None:
    with pytest.raises(InvalidDefinition):
        App(name)
    with pytest.raises(InvalidDefinition):
        App("shop", group=name)


def test_a_record_finds_its_handler_by_type_or_by_the_default_of_its_queue() -> None:
    app = App("shop")
    app.queue("emails", default_type="send")
    send = app.job("send", queue="emails")(send_email)
    other = app.job("other", queue="others")(send_email)
    assert app.find("send", queue="emails") is send
    assert app.find(None, queue="emails") is send
    assert app.find("other", queue="others") is other
    for type_, queue in [
        ("other", "emails"),
        (None, "others"),
        ("x", "emails"),
        ("send", "nowhere"),
        (None, "nowhere"),
    ]:
        with pytest.raises(UnknownJobType):
            app.find(type_, queue=queue)


def test_a_default_type_must_be_a_job_of_its_queue() -> None:
    app = App("shop")
    app.queue("emails", default_type="send")
    with pytest.raises(InvalidDefinition, match="default type 'send'"):
        app.check()
    app.job("send", queue="emails")(send_email)
    app.check()


def test_a_description_lets_others_check_arguments_without_the_code() -> None:
    app = App("shop", group="shop-eu")
    app.queue("emails", default_type="send")
    app.job("send", queue="emails", retry=Retry(attempts=2), timeout="5m")(send_email)
    (described,) = json.loads(json.dumps(app.describe()))
    assert described["group"] == "shop-eu"
    assert described["is_default"]
    assert described["timeout"] == "5m"
    assert described["retry"]["attempts"] == 2
    import jsonschema_rs

    validator = jsonschema_rs.validator_for(described["args_schema"])
    assert validator.is_valid({"to": "a"})
    assert not validator.is_valid({"to": 1})
    assert not validator.is_valid({"to": "a", "x": 1})


def test_a_context_tells_its_time_and_its_last_attempt() -> None:
    ctx = context()
    assert ctx.created_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert ctx.is_last_attempt
    assert not context(attempt=1).is_last_attempt
