"""Statuses that the view stores without reading them: what is kept is what reading them would have said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logqueue_consumers.view import schema
from logqueue_consumers.view.batches import BatchReader
from logqueue_consumers.view.job import State, fold
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
