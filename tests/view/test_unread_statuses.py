"""Statuses that the view stores without reading them: what is kept is what reading them would have said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import Mock, patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logqueue_consumers.view import jobs_table, schema
from logqueue_consumers.view.batches import BatchReader
from logqueue_consumers.view.job import State, fold
from logqueue_consumers.view.jobs_table import JobsTable
from logqueue_consumers.view.reader import ViewReader
from logqueue_consumers.view.records import read_job_record, read_status
from logqueue_consumers.view.store import ViewStore
from logqueue_consumers.view.told import head_of
from logqueue_schemas.avro import content_id
from logqueue_schemas.job_status import RANKS, SCHEMA, InvalidStatus, JobStatus, StatusCodec, StatusError
from logqueue_schemas.job_status import State as StatusState
from logqueue_schemas.status_decoding import NOT_FOR_US
from logqueue_schemas.status_parts import Tail, cutter, encode_tail, read_tail

from logqueue.ids import TopicPartition
from logqueue.jobs.lean_records import Record
from logqueue.jobs.topics import TopicNames
from tests.view.pieces import states as changed_states

CODEC = StatusCodec(7)
JOBS, STATUS = "jobs.mail", "jobs.status"
TIMES = st.integers(1_700_000_000_000_000, 1_700_000_000_000_002)


def status_record(status: JobStatus) -> Record:
    return Record(STATUS, 0, 0, status.at // 1000, status.key, CODEC.encode(status), ())


def job_record(id_: str, offset: int, headers: Sequence[tuple[str, bytes]]) -> Record:
    return Record(JOBS, 0, offset, 1_700_000_000_000, b"acme", b"{}", (("ce_id", id_.encode()), *headers))


statuses = st.builds(
    lambda state, **fields: JobStatus(rank=RANKS[state], state=state, topic=JOBS, partition=0, **fields),
    st.sampled_from(StatusState),
    id=st.sampled_from(["a", "b"]),
    type=st.sampled_from([None, "mail", "other", "ä"]),
    queue=st.just("mail"),
    tenant=st.just("acme"),
    group=st.sampled_from(["app", "audit"]),
    shadow=st.booleans(),
    at=TIMES,
    offset=st.integers(0, 2),
    replay=st.sampled_from([0, 1, 70]),
    attempt=st.integers(1, 2),
    sequence=st.integers(0, 2) | TIMES,
    created_at=st.none() | TIMES,
    finished_at=st.none() | TIMES,
    due_at=st.none() | st.just(5),
    result=st.sampled_from([None, b"1", b"2" * 100]),
    error=st.none() | st.just(StatusError("OSError", "kaputt: ä", "transient")),
    worker=st.sampled_from([None, "host:1", "ä:1"]),
    details=st.sampled_from([None, b"{}"]),
)
job_records = st.builds(
    job_record,
    st.sampled_from(["a", "b"]),
    st.integers(0, 2),
    st.sampled_from(
        [(), (("ce_type", b"mail"),), (("job-expires", b"2030-01-01T00:00:00Z"),), (("job-replay", b"1"),)]
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(statuses.map(status_record) | job_records, max_size=10), st.data())
def test_rows_are_what_reading_every_record_whole_joins_to(records: list[Record], data: st.DataObject) -> None:
    check_rows(records, data)


@settings(max_examples=400, deadline=None)
@given(st.lists(statuses.map(status_record) | job_records, max_size=10), st.data(), st.integers(0, 2))
def test_also_where_a_sample_of_the_rows_stands_for_all(records: list[Record], data: st.DataObject, wary: int) -> None:
    with patch.multiple(jobs_table, _MANY=1, _SAMPLE=1, _WARY_BATCHES=wary + 1):
        check_rows(records, data)


def check_rows(records: list[Record], data: st.DataObject) -> None:
    whole = [
        read_job_record(record, "mail") if record.topic == JOBS else CODEC.read(record.value or b"", read_status)
        for record in records
    ]
    with TemporaryDirectory() as folder:
        store = ViewStore.open(Path(folder) / "view.db", cluster_id="c")
        reader, left, changed = BatchReader(TopicNames(), CODEC), records, {}
        while left:
            size = data.draw(st.integers(1, len(left)))
            batch = reader.read([(TopicPartition(record.topic, 0), [record]) for record in left[:size]])
            changed.update(changed_states(store.apply(batch).changes))
            left = left[size:]
        view = ViewReader.open(store.path)
        expected = fold(whole)
        assert {key: view.job(key.id, shadow=key.shadow) for key in expected} == expected
        assert changed == {key: job.outcome.state for key, job in expected.items()}
        counts: dict[State, int] = {}
        for shadow in ("", "app", "audit"):
            for queue in view.queues(shadow=shadow):
                for state, jobs in queue.counts.items():
                    counts[state] = counts.get(state, 0) + jobs
        states = [job.outcome.state for job in expected.values()]
        assert counts == {state: states.count(state) for state in states}
        view.close()
        store.close()


def ends(ids: Sequence[str], attempt: int = 1) -> list[Record]:
    return [
        status_record(
            JobStatus(
                id=id_,
                type="mail",
                queue="mail",
                tenant="acme",
                group="app",
                rank=RANKS[StatusState.SUCCEEDED],
                state=StatusState.SUCCEEDED,
                topic=JOBS,
                partition=0,
                offset=0,
                at=1_700_000_000_000_000,
                attempt=attempt,
                sequence=1,
            )
        )
        for id_ in ids
    ]


class Folded:
    """A view into which records are folded, and how many rows it has looked at so far."""

    def __init__(self, folder: Path, looked: Mock) -> None:
        self.store = ViewStore.open(folder / "view.db", cluster_id="c")
        self._reader = BatchReader(TopicNames(), CODEC)
        self._looked = looked

    def apply(self, records: list[Record]) -> int:
        """How many rows it looked at."""
        self._looked.reset_mock()
        self.store.apply(self._reader.read([(TopicPartition(records[0].topic, 0), records)]))
        return sum(len(call.args[2]) for call in self._looked.call_args_list)

    def states(self, ids: Sequence[str]) -> list[tuple[State, int]]:
        view = ViewReader.open(self.store.path)
        jobs = [view.job(id_) for id_ in ids]
        view.close()
        return [(job.outcome.state, job.outcome.attempt) for job in jobs if job is not None]

    def counts(self) -> dict[State, int]:
        view = ViewReader.open(self.store.path)
        (queue,) = view.queues()
        view.close()
        return {state: jobs for state, jobs in queue.counts.items() if jobs}


@pytest.fixture
def folded(tmp_path: Path) -> Iterator[Folded]:
    read_rows = JobsTable._read_rows
    with patch.object(JobsTable, "_read_rows", autospec=True, side_effect=read_rows) as looked:
        made = Folded(tmp_path, looked)
        yield made
        made.store.close()


IDS = [f"job-{number}" for number in range(400)]


def test_of_rows_that_stand_alike_a_few_are_looked_at(folded: Folded) -> None:
    folded.apply([job_record(id_, offset, ()) for offset, id_ in enumerate(IDS)])
    assert folded.apply(ends(IDS[:200])) <= 20
    assert folded.apply(ends(IDS[:50])) == 100, "as each may have ended otherwise meanwhile, and whole"
    assert folded.counts() == {State.QUEUED: 200, State.SUCCEEDED: 200}


def test_a_row_that_stands_otherwise_than_the_sample_has_all_looked_at(folded: Folded) -> None:
    folded.apply([job_record(id_, offset, ()) for offset, id_ in enumerate(IDS)])
    folded.apply(ends(IDS[1:2], attempt=2))  # no sample of 200 has the second
    assert folded.apply(ends(IDS[:200])) >= 200
    assert folded.states(IDS[:3]) == [(State.SUCCEEDED, 1), (State.SUCCEEDED, 2), (State.SUCCEEDED, 1)]
    assert folded.counts() == {State.QUEUED: 200, State.SUCCEEDED: 200}
    assert folded.apply(ends(IDS[200:])) == 200, "one that was misled looks at every row for a while"
    assert folded.counts() == {State.SUCCEEDED: 400}


@given(statuses, st.data())
def test_what_is_not_read_could_be_read(status: JobStatus, data: st.DataObject) -> None:
    """Broken bytes are never stored: a status that is cut is one, and its tail says what the whole does."""
    value = bytearray(CODEC.encode(status))
    for _ in range(data.draw(st.integers(0, 2))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    broken = bytes(value[: data.draw(st.integers(0, len(value)) | st.just(len(value)))])
    try:
        id_, head, tail = cutter(CODEC.header)(broken)
    except NOT_FOR_US:
        return
    try:
        said = CODEC.decode(broken)
    except InvalidStatus:
        # The state's place in the enum is looked up where heads are read.
        with pytest.raises(NOT_FOR_US):
            head_of(head)
        return
    assert id_ == said.id
    assert broken.endswith(head + tail)
    assert read_tail(tail) == tail_of(said)


def tail_of(said: JobStatus) -> Tail:
    return Tail(
        said.sequence,
        said.at,
        said.started_at,
        said.finished_at,
        said.due_at,
        said.result,
        said.error,
        said.worker,
        said.details,
    )


def test_ordinary_statuses_are_not_read() -> None:
    cut = cutter(CODEC.header)
    status = JobStatus(
        id="0198c0de-7a3b-7000-8000-0123456789ab",
        type="mail.send",
        queue="mail",
        tenant="acme",
        group="app",
        state=StatusState.DEAD,
        rank=5,
        at=1_700_000_000_000_000,
        topic=JOBS,
        partition=31,
        offset=2**40,
        result=b"x" * 5_000,
        error=StatusError("OSError", "kaputt" * 50, "transient"),
        worker="host:1",
        details=b"{}",
    )
    assert cut(CODEC.encode(status))[0] == status.id


@given(statuses)
def test_a_tail_is_read_back_as_written(status: JobStatus) -> None:
    assert read_tail(encode_tail(tail_of(status))) == tail_of(status)


def test_the_layout_is_another_one_when_the_schema_of_the_statuses_in_it_is() -> None:
    assert (schema.VERSION, content_id(SCHEMA)) == (5, 190628688), "raise VERSION, as rows hold tails of the old schema"
