"""Options of a sending, and the record they make. No log."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka.partitioner import murmur2 as reference_murmur2
from hypothesis import given
from hypothesis import strategies as st

from logqueue import App
from logqueue.clock import ManualClock
from logqueue.jobs.durations import InvalidDuration
from logqueue.jobs.errors import InvalidArguments, InvalidDefinition, InvalidHeader, JobTooLarge
from logqueue.jobs.headers import job_headers, read_job_headers
from logqueue.jobs.partitioning import murmur2, partition_of
from logqueue.jobs.sending import HEADER_OVERHEAD_BYTES, check_job_size, prepare_job
from logqueue.jobs.settings import Settings
from logqueue.jobs.unique import Unique

NOW_MS = 1_700_000_000_000
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)

app = App("shop", clock=ManualClock(time_ms=NOW_MS))


@app.job("email.send", queue="emails")
async def send_email(*, to: str) -> None: ...


def test_a_job_is_prepared_with_every_header_that_others_need() -> None:
    job = send_email.prepare(tenant="acme", to="a")
    read = read_job_headers(job.headers)
    assert (read.id, read.type, read.created_ms) == (job.id, "email.send", NOW_MS)
    assert dict(job.headers)["ce_source"] == b"shop"
    assert (job.queue, job.tenant, job.value) == ("emails", "acme", b'{"to":"a"}')


def test_without_a_tenant_the_job_belongs_to_the_default_one() -> None:
    assert send_email.prepare(to="a").tenant == "default"


@pytest.mark.parametrize(
    ("options", "due", "expires"),
    [
        ({"delay": "10m"}, NOW_MS + 600_000, None),
        ({"delay": 0.25}, NOW_MS + 250, None),
        ({"run_at": NOW + timedelta(hours=1)}, NOW_MS + 3_600_000, None),
        ({"expires": "1h"}, None, NOW_MS + 3_600_000),
        ({"expires": NOW + timedelta(days=1), "delay": timedelta(minutes=1)}, NOW_MS + 60_000, NOW_MS + 86_400_000),
    ],
)
def test_times_are_written_into_the_headers(options: dict[str, Any], due: int | None, expires: int | None) -> None:
    read = read_job_headers(send_email.with_(**options).prepare(to="a").headers)
    assert (read.not_before_ms, read.expires_ms) == (due, expires)


def test_an_id_and_headers_of_ones_own_are_taken_over() -> None:
    job = send_email.with_(id="order-7", headers={"x": "é", "y": b"\x00"}).prepare(to="a")
    assert job.id == "order-7"
    assert job.headers[-2:] == [("x", "é".encode()), ("y", b"\x00")]


def test_headers_stand_in_one_order_whatever_the_options() -> None:
    job = prepare_job(
        type="email.send",
        queue="emails",
        value=b"{}",
        source="shop",
        now_ms=NOW_MS,
        tenant="acme",
        not_before_ms=NOW_MS + 1,
        expires_ms=NOW_MS + 2,
        headers=[("x", b"1")],
        priority="high",
        idempotency_key="k",
    )
    assert job.headers == job_headers(
        id=job.id,
        type="email.send",
        source="shop",
        created_ms=NOW_MS,
        not_before_ms=NOW_MS + 1,
        expires_ms=NOW_MS + 2,
        extra=[("x", b"1"), ("job-idempotency-key", b"k"), ("job-priority", b"high")],
    )


@given(st.integers(1, 16), st.uuids().map(str))
def test_a_spread_job_tells_its_tenant_behind_its_other_headers(spread: int, id_: str) -> None:
    job = prepare_job(
        type="t", queue="q", value=b"{}", source="s", now_ms=1, tenant="a", id=id_, headers=[("x", b"")], spread=spread
    )
    assert [name for name, _ in job.headers][6:] == (["x"] if job.record_key() == b"a" else ["x", "job-tenant"])


@pytest.mark.parametrize("options", [{}, {"expires": "1h"}, {"spread": 8}])
def test_unique_jobs_are_not_spread_whoever_asks_for_it(options: dict[str, Any]) -> None:
    app = App("shop")
    app.queue("images", order="none", spread=8)

    @app.job("once", queue="images", unique=Unique())
    async def once(*, n: int) -> None: ...

    @app.job("often", queue="images")
    async def often(*, n: int) -> None: ...

    def keys(job: Any) -> set[bytes]:
        how = job.with_(**options) if options else job
        return {how.prepare(tenant="acme", n=n).record_key() for n in range(100)}

    assert keys(once) == {b"acme"}
    assert len(keys(often)) == 8


def test_many_prepared_jobs_are_nothing_to_the_garbage_collector() -> None:
    jobs = [send_email.with_(tenant="acme").prepare(to="a") for _ in range(2)]
    assert not any(gc.is_tracked(each) for job in jobs for each in (job, job.own, job.value))
    assert jobs[0].shared is jobs[1].shared


@pytest.mark.parametrize(
    "options",
    [
        {"delay": "1s", "run_at": NOW},
        {"run_at": datetime(2026, 1, 1)},
        {"run_at": "2026-01-01"},
        {"expires": "1s", "delay": "2s"},
        {"expires": NOW - timedelta(1)},
        {"expires": 0},
        {"id": ""},
        {"id": "a\nb"},
        {"id": "x" * 513},
        {"tenant": ""},
        {"tenant": 5},
        {"tenant": "x" * 256},
        {"tenant": "\ud800"},
    ],
)
def test_an_option_that_cannot_be_is_refused_and_nothing_is_sent(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArguments):
        send_email.with_(**options).prepare(to="a")


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"x": "a" * 2_000_000}},
        {"headers": {"x": "a", "y": b"b" * 2_000_000}},
        {"headers": {"x": "a" * 2_000_000}, "delay": "1s", "tenant": "acme"},
        {"headers": {"a" * 2_000_000: "x"}},
    ],
)
def test_headers_count_as_much_as_arguments_do_for_the_size_of_a_job(options: dict[str, Any]) -> None:
    with pytest.raises(JobTooLarge, match="2,000,"):
        check_job_size(send_email.with_(**options).prepare(to="a"), 1_000_000)


def test_a_job_may_be_as_large_as_the_limit_says_and_no_larger() -> None:
    job = send_email.with_(headers={"x": "a" * 20_000}, id="é" * 512).prepare(to="a")
    size = len(job.value) + sum(len(name) + len(value) + HEADER_OVERHEAD_BYTES for name, value in job.headers)
    check_job_size(job, size)
    with pytest.raises(JobTooLarge):
        check_job_size(job, size - 1)


@pytest.mark.parametrize("headers", [{"x": "\ud800"}, {"\ud800": "x"}])
def test_a_header_that_has_no_utf8_form_is_named(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidHeader, match="UTF-8") as refused:
        send_email.with_(headers=headers)
    assert str(refused.value).isascii(), "so that it can be shown"


FORK = """
import os
from logqueue.jobs.sending import prepare_job
def ids():
    jobs = [prepare_job(type="t", queue="q", value=b"", source="s", now_ms=1) for _ in range(3)]
    return " ".join(job.id[14:] for job in jobs)  # what does not follow from the time
ids()
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, ids().encode())
    os._exit(0)
os.wait()
print(ids(), os.read(read, 1_000).decode())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
def test_a_forked_process_makes_other_ids_than_its_parent() -> None:
    made = subprocess.run([sys.executable, "-c", FORK], check=True, capture_output=True, text=True).stdout.split()
    assert len(set(made)) == len(made) == 6


def test_durations_and_headers_are_checked_by_their_own_rules() -> None:
    with pytest.raises(InvalidDuration):
        send_email.with_(delay="soon")
    with pytest.raises(InvalidHeader):
        send_email.with_(headers={"ce_id": "x"})


@given(st.binary(max_size=64))
def test_partitions_are_those_of_kafkas_default_partitioner(key: bytes) -> None:
    assert murmur2(key) == reference_murmur2(key)
    assert partition_of(key, 16) == (reference_murmur2(key) & 0x7FFFFFFF) % 16


def test_murmur2_agrees_with_the_known_values_of_the_java_client() -> None:
    # org.apache.kafka.common.utils.UtilsTest#testMurmur2
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    assert {key: murmur2(key) - 2**32 * (murmur2(key) >> 31) for key in known} == known


def test_settings_are_fixed_once_connected_and_a_loop_has_its_own_connection() -> None:
    app = App("shop")
    app.configure(Settings(bootstrap="127.0.0.1:1"))

    async def use() -> object:
        client = await app.client()
        assert await app.client() is client
        with pytest.raises(InvalidDefinition, match="connected already"):
            app.configure(Settings())
        return client

    assert asyncio.run(use()) is not asyncio.run(use())
