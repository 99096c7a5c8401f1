"""Lean consumers: the same records as aiokafka's, in a smaller form."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition

from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.headers import compact_headers, job_headers
from logqueue.jobs.job_ids import JobIds
from logqueue.jobs.lean_fetch import lean
from logqueue.jobs.lean_records import Record
from tests.consumers.conftest import Log
from tests.loops import in_loop

FIELDS = Record.__struct_fields__


async def read(log: Log, topic: str, count: int, *, is_lean: bool) -> list[tuple[object, ...]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=log.settings.bootstrap, enable_auto_commit=False, isolation_level="read_committed"
    )
    async with lean(consumer) if is_lean else consumer:
        tp = TopicPartition(topic, 0)
        consumer.assign([tp])
        consumer.seek(tp, 0)
        records: list[object] = []
        while len(records) < count:
            got = (await consumer.getmany(timeout_ms=500, max_records=2)).get(tp, [])
            assert len(got) <= 2
            assert all(isinstance(record, Record) == is_lean for record in got)
            records += got
        assert await consumer.position(tp) == count
        return [tuple(getattr(record, name) for name in FIELDS) for record in records]


def test_a_lean_consumer_hands_out_what_aiokafkas_does(log: Log) -> None:
    @in_loop
    async def reading() -> None:
        spec = log.settings.topics.jobs_spec("lean", partitions=1)
        await ensure_topics(log.settings, [spec])
        written = [
            (b"a", b"1", [("h", b"x"), ("h", b"")]),
            (None, b"", []),
            (b"", None, []),
            (b"k", b"4", [("é", b"")]),
        ]
        for key, value, headers in written:
            await log.produce(spec.name, value, key=key, headers=headers, partition=0)
        found = await read(log, spec.name, 4, is_lean=True)
        assert found == await read(log, spec.name, 4, is_lean=False)
        assert [(key, value, list(headers)) for *_, key, value, headers in found] == written

    reading()


def test_headers_that_all_jobs_of_a_type_have_are_in_memory_once() -> None:
    ids = JobIds()
    first, second = (
        [(str(name), bytes(value)) for name, value in job_headers(id=ids.next(), type="a", source="s", created_ms=at)]
        for at in (1, 2)
    )
    kept, again = compact_headers(first), compact_headers(second)
    assert (kept, again) == (tuple(first), tuple(second))
    assert [one is other for one, other in zip(kept, again, strict=True)] == [False, False, True, True, True, True]


def test_headers_of_others_stay_as_they_are() -> None:
    for headers in ([], [("a", b"1")], [("a", b"1"), ("a", b"2"), ("c", b"")], [("ce_id", b"1"), ("ce_time", b"")]):
        assert compact_headers(headers) == tuple(headers)
