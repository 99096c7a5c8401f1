"""The view file: what it answers, and that it can always be had back."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logqueue_consumers.view.job import (
    FROM_JOB_RECORD,
    FROM_STATUS,
    RANKS,
    STATES_BY_NAME,
    Identity,
    Job,
    JobKey,
    Outcome,
    State,
    fold,
)
from logqueue_consumers.view.listing import MAX_WALKED
from logqueue_consumers.view.place import InvalidCursor, JobFilter, Place, decode_cursor, encode_cursor
from logqueue_consumers.view.reader import ViewReader, ViewUnavailable
from logqueue_consumers.view.store import Batch, ViewInUse, ViewNotWritable, ViewStore

from logqueue.ids import TopicPartition
from logqueue.jobs.job_ids import MAX_ID_CHARS
from tests.view.pieces import pieces, states

QUEUES = ("mail", "push")
TYPES = ("mail.send", "push.send", "push.drop")
TENANTS = ("acme", "zeta", "default")
ERROR = b'{"type":"X","message":"no","class":"permanent"}'


def make_job(
    number: int,
    *,
    state: State = State.QUEUED,
    queue: str = "mail",
    type_: str | None = "mail.send",
    tenant: str = "acme",
    created_ms: int | None = None,
    shadow: str = "",
    result: bytes | None = None,
) -> Job:
    source = FROM_JOB_RECORD if state is State.QUEUED else FROM_STATUS
    created = 1_000 + number if created_ms is None else created_ms
    identity = Identity(source, created, f"jobs.{queue}", number % 16, number // 16, queue, tenant)
    outcome = Outcome(0, 1, RANKS[state], number, state, created * 1000, "app", result=result)
    return Job(JobKey(f"job-{number:06}", shadow), type_, identity, outcome)


def open_store(tmp_path: Path, cluster_id: str = "cluster-1") -> ViewStore:
    return ViewStore.open(tmp_path / "view.db", cluster_id=cluster_id)


def all_ids(reader: ViewReader, job_filter: JobFilter, *, limit: int = 7) -> list[str]:
    """Every page of a list, one after the other, through the text form of the cursor."""
    ids: list[str] = []
    after: Place | None = None
    while True:
        page = reader.jobs(job_filter, limit=limit, after=after)
        assert len(page.jobs) <= limit
        ids += [job.key.id for job in page.jobs]
        if page.after is None:
            return ids
        after = decode_cursor(encode_cursor(page.after, job_filter), job_filter)


def test_what_was_applied_is_read_back_whole(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    identity = Identity(FROM_JOB_RECORD, 1_700_000_000_123, "jobs.mail", 3, 99, "mail", "acme", 5)
    outcome = Outcome(1, 2, 5, 77, State.DEAD, 9, "app", 1, 2, 3, b'{"a":1}', ERROR, "host-1")
    job = Job(JobKey("j1"), "mail.send", identity, outcome)
    store.apply(Batch(pieces=[job], positions={TopicPartition("jobs.mail", 3): 100}))
    reader = ViewReader.open(tmp_path / "view.db")
    assert reader.job("j1") == job
    assert reader.job("j2") is None
    assert reader.positions() == {TopicPartition("jobs.mail", 3): 100}
    reader.close()
    store.close()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(State), st.sampled_from(["", "audit"])), max_size=30),
    st.data(),
)
def test_counts_equal_the_jobs_however_the_records_are_batched(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, State, str]], data: st.DataObject
) -> None:
    store = open_store(tmp_path_factory.mktemp("view"))
    pieces = [make_job(number, state=state, shadow=shadow) for number, state, shadow in steps]
    while pieces:
        size = data.draw(st.integers(1, len(pieces)))
        store.apply(Batch(pieces=pieces[:size]))
        pieces = pieces[size:]
    reader = ViewReader.open(store.path)
    for shadow in ("", "audit"):
        jobs = reader.jobs(JobFilter(shadow=shadow), limit=100).jobs
        counts: dict[State, int] = {}
        for job in jobs:
            counts[job.outcome.state] = counts.get(job.outcome.state, 0) + 1
        assert counts == (dict(reader.queues(shadow=shadow)[0].counts) if jobs else {})
    reader.close()
    store.close()


@settings(max_examples=150, deadline=None)
@given(pieces, st.data())
def test_rows_are_what_their_pieces_join_to_however_the_records_are_batched(
    heard: list[Job], data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        store = ViewStore.open(Path(folder) / "view.db", cluster_id="c")
        left, changed = heard, {}
        while left:
            size = data.draw(st.integers(1, len(left)))
            changed.update(states(store.apply(Batch(pieces=left[:size])).changes))
            left = left[size:]
        reader = ViewReader.open(store.path)
        expected = fold(heard)
        assert {key: reader.job(key.id, shadow=key.shadow) for key in expected} == expected
        assert changed == {key: job.outcome.state for key, job in expected.items()}
        counts: Counter[State] = Counter()
        for shadow in ("", "audit"):
            for queue in reader.queues(shadow=shadow):
                counts.update(queue.counts)
        assert +counts == Counter(job.outcome.state for job in expected.values())
        reader.close()
        store.close()


def test_every_filter_lists_exactly_the_matching_jobs_newest_first(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    chance = random.Random(7)
    jobs = [
        make_job(
            number,
            state=chance.choice(list(State)),
            queue=chance.choice(QUEUES),
            type_=chance.choice(TYPES),
            tenant=chance.choice(TENANTS),
            created_ms=1_000 + chance.randrange(40),  # many born in the same millisecond
        )
        for number in range(300)
    ]
    store.apply(Batch(pieces=jobs))
    reader = ViewReader.open(store.path)
    for _ in range(80):
        job_filter = JobFilter(
            states=tuple(chance.sample(list(State), chance.choice([0, 0, 1, 2]))),
            queue=chance.choice([None, *QUEUES, "none"]),
            type=chance.choice([None, *TYPES, "none"]),
            tenant=chance.choice([None, *TENANTS, "none"]),
            since_ms=chance.choice([None, 1_010]),
            until_ms=chance.choice([None, 1_030]),
        )
        expected = [job for job in jobs if _matches(job, job_filter)]
        ids = all_ids(reader, job_filter)
        assert sorted(ids) == sorted(job.key.id for job in expected)
        created = {job.key.id: job.identity.created_ms for job in jobs}
        assert [created[id_] for id_ in ids] == sorted((created[id_] for id_ in ids), reverse=True)
    reader.close()
    store.close()


def _matches(job: Job, job_filter: JobFilter) -> bool:
    return (
        (not job_filter.states or job.outcome.state in job_filter.states)
        and job_filter.queue in (None, job.identity.queue)
        and job_filter.type in (None, job.type)
        and job_filter.tenant in (None, job.identity.tenant)
        and (job_filter.since_ms is None or job.identity.created_ms >= job_filter.since_ms)
        and (job_filter.until_ms is None or job.identity.created_ms < job_filter.until_ms)
    )


def test_jobs_with_the_same_sort_key_are_all_listed_page_by_page(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    jobs = [
        make_job(0, queue=f"q{number}", created_ms=5)._replace(key=JobKey(f"same-{number:02}")) for number in range(20)
    ]
    store.apply(Batch(pieces=jobs))
    reader = ViewReader.open(store.path)
    assert all_ids(reader, JobFilter(), limit=3) == [f"same-{number:02}" for number in range(20)]
    assert all_ids(reader, JobFilter(type="mail.send"), limit=3) == [f"same-{number:02}" for number in range(20)]
    reader.close()
    store.close()


def test_a_rare_combination_costs_pages_of_bounded_work_and_misses_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    rare = (3, MAX_WALKED + 500)
    jobs = [
        make_job(number, tenant="acme", type_="mail.send", state=State.DEAD if number in rare else State.SUCCEEDED)
        for number in range(MAX_WALKED + 1_000)
    ]
    jobs += [make_job(100_000 + number, tenant="zeta", type_="push.send", state=State.DEAD) for number in range(9_000)]
    store.apply(Batch(pieces=jobs))
    reader = ViewReader.open(store.path)
    job_filter = JobFilter(tenant="acme", states=(State.DEAD,))
    first = reader.jobs(job_filter, limit=50)
    assert len(first.jobs) < len(rare)
    assert first.after is not None
    assert all_ids(reader, job_filter, limit=50) == [f"job-{number:06}" for number in sorted(rare, reverse=True)]
    reader.close()
    store.close()


def test_a_job_without_a_type_is_listed_under_the_default_type_of_its_queue(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.apply(Batch(pieces=[make_job(1, type_=None), make_job(2), make_job(3, type_=None, queue="push")]))
    reader = ViewReader.open(store.path)
    page = reader.jobs(JobFilter(type="flight"), limit=10, default_types={"mail": "flight"})
    assert [job.key.id for job in page.jobs] == ["job-000001"]
    reader.close()
    store.close()


def test_a_batch_that_fails_leaves_neither_jobs_nor_positions(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    unstorable = make_job(2)
    unstorable = unstorable._replace(identity=unstorable.identity._replace(offset=2**70, tenant="new"))
    with pytest.raises(OverflowError):
        store.apply(Batch(pieces=[make_job(1), unstorable], positions={TopicPartition("jobs.mail", 0): 2}))
    assert store.positions() == {}
    store.apply(Batch(pieces=[make_job(3, tenant="new")]))
    reader = ViewReader.open(store.path)
    assert all_ids(reader, JobFilter()) == ["job-000003"]
    assert reader.job("job-000003") == make_job(3, tenant="new")
    reader.close()
    store.close()


def test_a_reopened_view_knows_its_positions(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    generation = store.generation
    store.apply(Batch(pieces=[make_job(1)], positions={TopicPartition("jobs.mail", 0): 2}))
    store.close()
    store = open_store(tmp_path)
    assert store.generation == generation
    assert store.positions() == {TopicPartition("jobs.mail", 0): 2}
    store.close()


def test_the_view_of_another_cluster_is_started_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.apply(Batch(pieces=[make_job(1)], positions={TopicPartition("jobs.mail", 0): 2}))
    store.close()
    store = open_store(tmp_path, "cluster-2")
    assert store.positions() == {}
    store.close()


def test_a_view_of_another_layout_is_started_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.apply(Batch(positions={TopicPartition("jobs.mail", 0): 2}))
    store.close()
    with sqlite3.connect(tmp_path / "view.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ViewUnavailable, match="layout 99"):
        ViewReader.open(tmp_path / "view.db")
    store = open_store(tmp_path)
    assert store.positions() == {}
    store.close()


def test_a_damaged_view_is_started_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.apply(Batch(pieces=[make_job(n) for n in range(500)], positions={TopicPartition("jobs.mail", 0): 2}))
    store.close()
    path = tmp_path / "view.db"
    data = bytearray(path.read_bytes())
    data[8192 : len(data) // 2] = bytes(len(data) // 2 - 8192)
    path.write_bytes(data)
    store = open_store(tmp_path)
    assert store.positions() == {}
    store.apply(Batch(pieces=[make_job(1)]))
    store.close()


def test_a_file_that_is_not_a_view_is_put_aside_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "view.db").write_text("my novel")
    store = open_store(tmp_path)
    assert store.positions() == {}
    store.close()
    assert (tmp_path / "view.db.not-a-view").read_text() == "my novel"


def test_a_view_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(ViewInUse, match=r"view\.db"):
        open_store(tmp_path)
    store.close()
    open_store(tmp_path).close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ViewNotWritable, match="file"):
        ViewStore.open(tmp_path / "file" / "view.db", cluster_id="c")


def test_definitions_are_replaced_and_withdrawn_by_key(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert store.apply(Batch(definitions={"definition/a/t": b"1", "definition/a/u": b"2"})).has_new_definitions
    store.apply(Batch(definitions={"definition/a/t": b"3", "definition/a/u": None}))
    reader = ViewReader.open(store.path)
    assert reader.definitions() == {"definition/a/t": b"3"}
    reader.close()
    store.close()


def test_the_changes_of_a_commit_name_each_job_once_with_its_state(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    applied = store.apply(Batch(pieces=[make_job(1), make_job(1, state=State.SUCCEEDED), make_job(2)]))
    assert states(applied.changes) == {JobKey("job-000001"): State.SUCCEEDED, JobKey("job-000002"): State.QUEUED}
    assert store.apply(Batch(pieces=[make_job(1)])).changes == {}
    store.close()


@pytest.mark.parametrize("text", ["", "x", "!!!", "AAAA", "é", "a" * 5_000, "kwE"])
def test_text_that_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(text, JobFilter())


def test_the_cursor_of_the_longest_id_is_taken_again() -> None:
    place = Place(2**63 - 1, "\U0001f40c" * MAX_ID_CHARS)
    assert decode_cursor(encode_cursor(place, JobFilter()), JobFilter()) == place


def test_a_cursor_of_a_list_with_other_filters_is_refused() -> None:
    text = encode_cursor(Place(5, "x"), JobFilter(tenant="acme"))
    assert decode_cursor(text, JobFilter(tenant="acme")) == Place(5, "x")
    with pytest.raises(InvalidCursor, match="filters"):
        decode_cursor(text, JobFilter(tenant="zeta"))


def test_the_names_of_states_are_those_of_the_status_records() -> None:
    assert set(STATES_BY_NAME) == {
        "scheduled", "queued", "running", "retrying", "succeeded", "dead", "parked", "cancelled", "expired",
        "blocked",
    }  # fmt: skip
