"""Kafka lets header values be null: whoever reads headers takes such a one for none, and no record ends a worker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.bridges.telling import told_job
from logqueue_consumers.control.notes import read_details
from logqueue_consumers.intake import job_reader
from logqueue_consumers.intake.job_reader import JobReader
from logqueue_consumers.job import Job
from logqueue_consumers.letters.foreign import read_foreign_letter
from logqueue_consumers.letters.letter import Deeds, read_letter
from logqueue_consumers.outcome import moved_headers
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.partitions.window import PartitionWindow
from logqueue_consumers.status.headers import read_move
from logqueue_consumers.view.records import read_job_record

from logqueue import App
from logqueue.jobs.errors import Undecodable
from logqueue.jobs.headers import OWN_HEADERS, Origin, read_origin
from logqueue.jobs.topics import TopicKind
from tests.consumers.conftest import Log, working
from tests.loops import in_loop

PAIRS = st.dictionaries(st.sampled_from(sorted(OWN_HEADERS)), st.none() | st.binary(max_size=30), max_size=8)
KINDS = (TopicKind.JOBS, TopicKind.RETRY, TopicKind.PARKED)

app = App("shop")


@app.job("work", queue="q")
async def work() -> None: ...


def record_with(headers: list[tuple[str, Any]], **changes: Any) -> Any:
    facts = {"topic": "jobs.q", "partition": 0, "offset": 7, "timestamp": 1, "key": b"acme", "value": b"{}"}
    return SimpleNamespace(**facts | changes, headers=tuple(headers))


def read(headers: list[tuple[str, Any]], kind: TopicKind = TopicKind.RETRY) -> Job:
    partition = OwnedPartition("jobs.q", 0, kind=kind, queue="q", order="none", window=PartitionWindow(0))
    return JobReader(app, "g").read(record_with(headers), partition)


@given(PAIRS, st.sampled_from(KINDS))
def test_whatever_the_headers_say_the_record_is_a_job(pairs: dict[str, Any], kind: TopicKind) -> None:
    job = read(list(pairs.items()), kind)
    assert "could not be read" not in str(job.problem), "every fault of headers is a foreseen one"
    told = told_job(record_with(list(pairs.items())))
    assert told.id and all(isinstance(text, str) for text in told.headers.values())
    read_letter(record_with(list(pairs.items())), queue="q", group="g", deeds=Deeds())
    read_job_record(record_with(list(pairs.items())), "q")
    read_details(pairs.items())
    read_move(pairs.items(), group="g")


@pytest.mark.parametrize("prefix", ["kafka_dlt-original-", "__connect.errors.", "__streams.errors.", "__dlq.errors."])
def test_a_foreign_letter_with_null_headers_says_nothing(prefix: str) -> None:
    letter = read_foreign_letter([(f"{prefix}{name}", None) for name in ("topic", "partition", "offset", "group")])
    assert letter is not None
    assert (letter.topic, letter.partition, letter.offset, letter.group) == (None, None, None, None)


@pytest.mark.parametrize("name", ["ce_id", "ce_type"])
def test_a_null_name_beside_a_header_that_cannot_be_read_is_a_job_under_its_position(name: str) -> None:
    job = read([(name, None), ("job-attempt", b"zz")])
    assert (job.id, job.type) == ("jobs.q-0-7", None)
    assert isinstance(job.problem, Undecodable) and "job-attempt" in str(job.problem)


def test_null_details_are_none() -> None:
    assert read_details([("job-details", None)]) is None
    assert read([("ce_type", b"work"), ("job-details", None)]).details is None


def test_a_job_with_a_null_origin_keeps_the_one_that_its_first_move_gives_it() -> None:
    origin = Origin("jobs.q", 0, 7, "g")
    moved = moved_headers([("job-origin-topic", None), ("x", None)], origin, attempt=1, due_ms=9)
    assert read_origin(moved) == origin
    assert ("x", None) in moved


@pytest.mark.parametrize("broken", ["read_job_headers", "salvage_job_headers"])
def test_what_nobody_has_foreseen_is_the_jobs_problem(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fail(_: Any) -> Any:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(job_reader, "read_job_headers", fail)
    monkeypatch.setattr(job_reader, broken, fail)
    job = read([("ce_id", b"a"), ("ce_type", b"work")])
    assert job.id == ("a" if broken == "read_job_headers" else "jobs.q-0-7")
    assert isinstance(job.problem, Undecodable)
    assert "ZeroDivisionError: by nought" in str(job.problem)


class Whimsical(msgspec.Struct):
    """A model whose validation has a bug."""

    whim: str

    def __post_init__(self) -> None:
        raise KeyError(self.whim)


@app.job("whimsical", queue="q")
async def whimsical(whim: Whimsical) -> None: ...


@pytest.mark.parametrize(
    ("odd", "said"),
    [([("ce_type", b"whimsical")], "KeyError: 'x'"), ([("ce_type", b"work"), ("job-attempt", b"zz")], "job-attempt")],
)
def test_who_waits_for_the_end_of_a_job_hears_of_one_that_cannot_be_read(
    odd: list[tuple[str, bytes]], said: str
) -> None:
    told = [("job-workflow", b"f/a/g"), ("job-holds", b"nightly"), ("job-replay", b"2"), ("job-tenant", b"globex")]
    partition = OwnedPartition("jobs.q", 0, kind=TopicKind.RETRY, queue="q", order="none", window=PartitionWindow(0))
    job = JobReader(app, "g").read(record_with([*odd, *told], value=b'{"whim": "x"}'), partition)
    assert isinstance(job.problem, Undecodable) and said in str(job.problem)
    headers = job.headers
    assert (headers.workflow, headers.holds, headers.replay, job.tenant) == ("f/a/g", "nightly", 2, "globex")


def test_details_that_are_no_text_are_none() -> None:
    assert read_details([("job-details", b'"\xff"')]) is None


@in_loop
async def test_records_with_null_headers_end_no_worker(log: Log) -> None:
    app = log.app()
    seen: list[Any] = []

    app.queue("q", default_type="work")

    @app.job("work", queue="q")
    async def work(ctx) -> None:  # type: ignore[no-untyped-def]
        seen.append((dict(ctx.headers), ctx.scheduled_at, ctx.workflow_id, dict(ctx.results)))

    topic, retry = log.settings.topics.jobs("q"), log.settings.topics.retry("q", log.name)
    async with working(app):
        every: list[Any] = [(name, None) for name in sorted(OWN_HEADERS)]
        for headers in ([*every, ("x", b"y")], [("ce_id", None), ("ce_type", None), ("job-attempt", b"zz")]):
            await log.produce(topic, b"{}", headers=headers)
        await log.produce(retry, b"{}", headers=[("job-details", None)])
        ended = await log.terminal(count=3)
    assert sorted(str(status.state) for status in ended) == ["dead", "succeeded", "succeeded"]
    assert sorted(seen, key=str) == [({"x": b"y"}, None, None, {}), ({}, None, None, {})]
