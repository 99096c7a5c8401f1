"""What may be declared about order, priorities, limits and spreading, and what a job then looks like on the log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.dispatch.bucket import Bounds
from logqueue_consumers.dispatch.placing import Commands

from logqueue import App, Limit
from logqueue.jobs.control import fold
from logqueue.jobs.errors import InvalidArguments, InvalidDefinition
from logqueue.jobs.limits import parse_rate, read_limit
from logqueue.jobs.sending import spread_key
from logqueue.jobs.settings import Settings
from logqueue.jobs.steering import limit_key, limit_value, pause_key, standing_limit
from logqueue.jobs.unique import Unique


def app() -> App:
    return App("shop", settings=Settings())


@pytest.mark.parametrize(
    "options",
    [
        {"by": "colour", "running": 1},
        {"by": "argument:", "running": 1},
        {"by": "tenant"},
        {"by": "tenant", "running": 0},
        {"by": "tenant", "running": True},
        {"by": "tenant", "rate": "fast"},
        {"by": "tenant", "rate": "0/s"},
        {"by": "tenant", "rate": "5/100d"},
        {"by": "tenant", "burst": 5},
        {"by": "tenant", "rate": "5/s", "burst": 0},
    ],
)
def test_a_limit_that_cannot_be_is_refused_where_it_is_declared(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidDefinition):
        Limit(**options)


@pytest.mark.parametrize(
    ("text", "per_second"), [("100/s", 100.0), ("30/m", 0.5), ("5/10s", 0.5), ("1 / 200ms", 5.0), ("36/h", 0.01)]
)
def test_a_rate_is_read_as_people_write_it(text: str, per_second: float) -> None:
    assert parse_rate(text).per_second == pytest.approx(per_second)


def test_a_limit_reads_back_from_its_description() -> None:
    limit = Limit(by="argument:customer", running=2, rate="5/s", burst=3)
    assert read_limit(limit.describe()) == limit


@pytest.mark.parametrize(
    "options",
    [
        {"priorities": {"high": 2.0}},
        {"priorities": {"high": 0, "normal": 1}},
        {"priorities": {"High!": 1, "normal": 1}},
        {"weights": {"acme": -1}},
        {"limits": [Limit(by="tenant", running=1), Limit(by="tenant", rate="1/s")]},
        {"limits": ["tenant"]},
        {"spread": 4},
        {"spread": 0, "order": "none"},
    ],
)
def test_a_queue_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidDefinition):
        app().queue("work", **options)


def test_a_job_names_a_class_of_its_queue_and_goes_to_its_topic() -> None:
    shop = app()
    shop.queue("work", priorities={"high": 6, "normal": 3})

    @shop.job("step", queue="work")
    async def step() -> None: ...

    high, normal = step.with_(priority="high").prepare(), step.with_(priority="normal").prepare()
    assert (high.priority, dict(high.headers)["job-priority"]) == ("high", b"high")
    assert normal.priority is None
    assert "job-priority" not in dict(normal.headers)
    with pytest.raises(InvalidArguments, match="high, normal"):
        step.with_(priority="urgent")
    topics = [spec.name for spec in shop.topic_specs()]
    assert {"jobs.work", "jobs.work.high"} <= set(topics)


@given(tenant=st.text(min_size=1, max_size=255), job_id=st.text(max_size=20), spread=st.integers(1, 1000))
def test_a_jobs_key_is_one_of_its_tenants_and_always_the_same(tenant: str, job_id: str, spread: int) -> None:
    try:
        job_id.encode()
    except UnicodeEncodeError:
        return
    key = spread_key(tenant, job_id, spread)
    assert key == spread_key(tenant, job_id, spread)
    assert key is None or (key.startswith(f"{tenant}#") and len(key) <= 255)


def test_what_ties_a_job_to_others_of_its_tenant_is_not_spread() -> None:
    shop = app()
    shop.queue("wide", order="none", spread=64)

    @shop.job("step", queue="wide")
    async def step() -> None: ...

    keys = {step.prepare(tenant="acme").key for _ in range(200)}
    assert len(keys) > 30
    assert {step.with_(tenant="acme", idempotency_key=f"k{n}").prepare().key for n in range(50)} == {None}
    assert {step.with_(tenant="acme", spread=1).prepare().key for _ in range(50)} == {None}


def test_unique_jobs_are_not_spread_and_limits_name_arguments_that_exist() -> None:
    shop = app()
    shop.queue("wide", order="none", spread=4)

    @shop.job("step", queue="wide", unique=Unique())
    async def step() -> None: ...

    with pytest.raises(InvalidDefinition, match="unique"):
        shop.check()
    other = app()

    async def bill(*, client: int) -> None: ...

    with pytest.raises(InvalidDefinition, match="customer"):
        other.job("bill", limits=[Limit(by="argument:customer", running=1)])(bill)


@given(st.integers(1, 100), st.integers(1, 16))
def test_shares_of_a_running_limit_never_add_up_to_more_than_the_limit_or_one_each(running: int, workers: int) -> None:
    shares = [Bounds.of(Limit(by="type", running=running), share=1 / workers).running or 0 for _ in range(workers)]
    assert sum(shares) <= max(running, workers)
    assert Bounds.of(Limit(by="type", running=running)).running == running


def test_commands_are_read_back_as_they_were_keyed() -> None:
    key = limit_key(queue="work", by="tenant")
    value = limit_value(by="tenant", running=3, rate="5/s")
    assert standing_limit(key, value) == ("queue", "work", Limit(by="tenant", running=3, rate="5/s"))
    assert limit_key(type_="a/b", by="argument:x") == "limit/type/argument:x/a/b"
    assert pause_key(queue="work", tenant="a/b") == "pause/tenant/work/a/b"


def test_a_limit_for_each_of_nothing_is_not_one_of_the_whole_queue() -> None:
    assert limit_key(queue="work") == "limit/queue/work/queue"
    with pytest.raises(InvalidArguments, match="none of queue"):
        limit_key(queue="work", by="")


def test_a_command_that_cannot_be_read_is_passed_over_and_the_others_hold() -> None:
    state = fold(
        [
            (b"limit/queue/work/tenant", b'{"running": "many"}'),
            (b"limit/queue/work/type", b'{"running": 2}'),
            (b"limit/tenant/work/acme", b"{}"),
            (b"weight/tenant/work/acme", b'{"weight": -1}'),
            (b"weight/priority/work/high", b'{"weight": 4}'),
            (b"pause/type/a/b", b"{}"),
        ]
    )
    commands = Commands.of(state)
    assert commands.limits == {
        ("queue", "work", "type"): Limit(by="type", running=2),
        ("tenant", "work", "acme"): None,
    }
    assert commands.weights == {("priority", "work", "high"): 4.0}
    assert commands.paused == {("type", "a/b")}
