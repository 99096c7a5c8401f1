"""While the view is behind, job records come with their statuses; and nothing is held up or lost by that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from aiokafka.errors import KafkaConnectionError
from logqueue_consumers.view.alignment import MAX_JOB_RECORDS, PATIENCE, Alignment, Read
from logqueue_consumers.view.batches import BatchReader
from logqueue_consumers.view.fold import Fold
from logqueue_consumers.view.follower import Follower
from logqueue_consumers.view.records import Record
from logqueue_consumers.view.store import ViewStore
from logqueue_schemas.job_status import JobStatus, State, StatusCodec

from logqueue.ids import TopicPartition
from logqueue.jobs.lean_records import Record as LeanRecord
from logqueue.jobs.schema_source import Registry
from logqueue.jobs.topics import TopicNames
from tests.loops import in_loop

MAIL, NEWS = TopicPartition("jobs.mail", 0), TopicPartition("jobs.news", 0)
STATUS, CONTROL = TopicPartition("jobs.status", 0), TopicPartition("jobs.control", 0)
CODEC = StatusCodec(7)
TIMEOUT = 0.02


class _Log:
    """Partitions with their records, all fetched, except for those that do not answer."""

    def __init__(self, sizes: Mapping[TopicPartition, int], *, silent: Iterable[TopicPartition] = ()) -> None:
        self._sizes = sizes
        self._positions = dict.fromkeys(sizes, 0)
        self.silent = set(silent)
        self.failing: set[TopicPartition] = set()

    def assigned(self) -> list[TopicPartition]:
        return sorted(self._sizes)

    def position(self, at: TopicPartition) -> int:
        return self._positions[at]

    def is_at_end(self, at: TopicPartition) -> bool:
        return at not in self.silent and self._positions[at] == self._sizes[at]

    async def read(self, *, timeout: float, of: Iterable[TopicPartition] = (), most: int | None = None) -> Read:
        found: Read = []
        left = most or 5_000
        for at in of or self.assigned():
            if at in self.failing:
                raise KafkaConnectionError
            start = self._positions[at]
            size = 0 if at in self.silent else min(left, self._sizes[at] - start)
            if size:
                found.append((at, [_record(at, offset) for offset in range(start, start + size)]))
                self._positions[at] += size
                left -= size
        return found


def _record(at: TopicPartition, offset: int) -> Record:
    return LeanRecord(at.topic, at.partition, offset, 0, None, b"", ())


def _alignment(log: _Log, spoken_of: Mapping[TopicPartition, int]) -> Alignment:
    def origins(read: Read) -> Mapping[TopicPartition, int]:
        return spoken_of if any(at == STATUS for at, _ in read) else {}

    return Alignment(log, follows_statuses=lambda topic: topic in (MAIL.topic, NEWS.topic), origins=origins)


async def _counts(alignment: Alignment) -> dict[TopicPartition, int]:
    read: Read = []
    await alignment.read(read, timeout=TIMEOUT)
    counts: dict[TopicPartition, int] = {}
    for at, records in read:
        counts[at] = counts.get(at, 0) + len(records)
    return counts


@in_loop
async def test_job_records_are_read_as_far_as_the_statuses_with_them_speak_of_them() -> None:
    log = _Log({MAIL: 100, NEWS: 100, STATUS: 6_000, CONTROL: 3})
    assert await _counts(_alignment(log, {MAIL: 40})) == {CONTROL: 3, STATUS: 4_997, MAIL: 40}


@in_loop
async def test_with_all_statuses_read_the_other_job_records_come_too() -> None:
    log = _Log({MAIL: 100, NEWS: 100, STATUS: 10})
    alignment = _alignment(log, {MAIL: 40})
    assert await _counts(alignment) == {STATUS: 10, MAIL: 40}
    assert await _counts(alignment) == {MAIL: 60, NEWS: 100}


@in_loop
async def test_a_round_is_bounded_and_the_next_one_goes_on_with_what_it_left() -> None:
    log = _Log({MAIL: 50_000, STATUS: 20_000})
    alignment = _alignment(log, {MAIL: 25_000})
    assert [(await _counts(alignment))[MAIL] for _ in range(3)] == [MAX_JOB_RECORDS, MAX_JOB_RECORDS, 5_000]


@in_loop
async def test_job_records_that_do_not_come_do_not_hold_up_statuses() -> None:
    log = _Log({MAIL: 100, STATUS: 6_000}, silent=[MAIL])
    assert await _counts(_alignment(log, {MAIL: 40})) == {STATUS: 5_000}


@in_loop
async def test_a_status_partition_that_does_not_answer_holds_job_records_up_for_some_rounds_only() -> None:
    log = _Log({MAIL: 6_000, STATUS: 10}, silent=[STATUS])
    alignment = _alignment(log, {})
    assert [await _counts(alignment) for _ in range(PATIENCE)] == [{}] * PATIENCE
    assert await _counts(alignment) == {MAIL: 5_000}
    assert await _counts(alignment) == {MAIL: 1_000}
    log.silent.clear()
    assert await _counts(alignment) == {STATUS: 10}


@in_loop
async def test_what_was_read_stays_when_the_next_read_of_the_round_fails() -> None:
    log = _Log({MAIL: 100, STATUS: 6_000})
    log.failing = {MAIL}
    read: Read = []
    with pytest.raises(KafkaConnectionError):
        await _alignment(log, {MAIL: 40}).read(read, timeout=TIMEOUT)
    assert [(at, len(records)) for at, records in read] == [(STATUS, 5_000)]


def _status(offset: int, topic: str = MAIL.topic) -> Record:
    status = JobStatus(
        id=f"job-{offset}", type="mail.send", queue="mail", tenant="acme", group="app", state=State.SUCCEEDED, rank=5,
        at=1_700_000_000_000_000, topic=topic, partition=0, offset=offset,
    )  # fmt: skip
    return LeanRecord(STATUS.topic, 0, offset, 0, status.key, CODEC.encode(status), ())


def test_statuses_say_where_the_records_of_their_jobs_end() -> None:
    statuses = [_status(offset) for offset in range(1_000)]
    broken = LeanRecord(STATUS.topic, 0, 0, 0, b"x", b"no status", ())
    tombstone = LeanRecord(STATUS.topic, 0, 0, 0, b"x", None, ())
    reader = BatchReader(TopicNames(), CODEC)
    read = [(STATUS, [*statuses, broken, tombstone, _status(7, NEWS.topic)]), (CONTROL, [_record(CONTROL, 0)])]
    assert reader.origins(read) == {MAIL: 1_000, NEWS: 8}


class _RestartingFollower:
    """While it reads, the view is started again: what it hands out may be of the log before."""

    cluster_id = "cluster-1"

    def __init__(self, store: ViewStore) -> None:
        self._store = store
        self._reads = 0
        self.starts: list[Mapping[TopicPartition, int]] = []
        self.is_through = asyncio.Event()

    async def read(self, *, timeout: float, of: Iterable[TopicPartition] = (), most: int | None = None) -> Read:
        self._reads += 1
        if self._reads > 1:
            self.is_through.set()
            await asyncio.Event().wait()
        self._store.rebuild(cluster_id=self.cluster_id)
        return [(STATUS, [_status(1)])]

    def assigned(self) -> list[TopicPartition]:
        return []

    def start_at(self, positions: Mapping[TopicPartition, int]) -> None:
        self.starts.append(positions)

    async def is_same_log(self, cluster_id: str) -> bool:
        return True

    async def discover(self) -> None:
        return None


@in_loop
async def test_what_was_read_while_the_view_was_started_again_is_not_folded_but_read_again(tmp_path: Path) -> None:
    store = ViewStore.open(tmp_path / "view.db", cluster_id="cluster-1")
    follower = _RestartingFollower(store)
    fold = Fold(
        follower=cast(Follower, follower),
        store=store,
        reader=BatchReader(TopicNames(), CODEC),
        registry=cast(Registry, SimpleNamespace()),
        reporter=None,
        discovery_interval=60,
    )
    running = asyncio.create_task(fold.run())
    await follower.is_through.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert store.positions() == {}
    assert follower.starts == [{}, {}]
    store.close()
