"""Which records the fold waits behind, and that waiting loses none of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from aiokafka.errors import KafkaConnectionError
from logqueue_consumers.view.batches import BatchReader
from logqueue_consumers.view.fold import QUEUED_LINGER_SECONDS, Fold
from logqueue_consumers.view.follower import Follower
from logqueue_consumers.view.job import JobKey, State
from logqueue_consumers.view.records import Record
from logqueue_consumers.view.reports import Reporter
from logqueue_consumers.view.store import ViewStore
from logqueue_schemas.avro import content_id
from logqueue_schemas.job_status import SCHEMA, JobStatus, StatusCodec
from logqueue_schemas.job_status import State as StatusState

from logqueue.ids import TopicPartition
from logqueue.jobs.headers import job_headers
from logqueue.jobs.schema_source import Registry
from logqueue.jobs.topics import TopicNames
from tests.loops import in_loop
from tests.view.pieces import states

JOBS, STATUS = TopicPartition("jobs.mail", 0), TopicPartition("jobs.status", 0)
NAMES = TopicNames("")
CODEC = StatusCodec(content_id(SCHEMA))
MARKED = TopicPartition("jobs.mail", 1)
Read = Sequence[tuple[TopicPartition, list[Record]]]


def queued(number: int) -> tuple[TopicPartition, list[Record]]:
    headers = job_headers(id=f"job-{number}", type="mail.send", source="test", created_ms=1_000)
    return JOBS, [record(JOBS, number, b"{}", headers)]


def ended(number: int) -> tuple[TopicPartition, list[Record]]:
    status = JobStatus(
        id=f"job-{number}", type="mail.send", queue="mail", tenant="default", group="app", shadow=False,
        state=StatusState.SUCCEEDED, replay=0, attempt=1, rank=5, sequence=1, at=2_000_000,
        topic=JOBS.topic, partition=0, offset=number,
    )  # fmt: skip
    return STATUS, [record(STATUS, number, CODEC.encode(status), [])]


def record(at: TopicPartition, offset: int, value: bytes, headers: Any) -> Record:
    found = SimpleNamespace(
        topic=at.topic, partition=at.partition, offset=offset, timestamp=1_000, key=None, value=value, headers=headers
    )
    return cast(Record, found)


class _Follower:
    """Gives what it was made with, read by read, or raises it; then nothing more comes."""

    cluster_id = "cluster-1"

    def __init__(self, *reads: Read | Exception) -> None:
        self._reads = list(reads)
        self.timeouts: list[float] = []
        self.is_through = asyncio.Event()
        self.passed_since: dict[TopicPartition, int] = {}

    async def read(self, *, timeout: float) -> Read:
        self.timeouts.append(timeout)
        if not self._reads:
            self.is_through.set()
            await asyncio.Event().wait()
        found = self._reads.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def is_same_log(self, cluster_id: str) -> bool:
        return True

    async def discover(self) -> None:
        return None

    def assigned(self) -> Read:
        return ()

    def start_at(self, positions: Mapping[TopicPartition, int]) -> None:
        return None

    def lag(self) -> int:
        return 0

    def passed_lately(self) -> Mapping[TopicPartition, int]:
        lately, self.passed_since = self.passed_since, {}
        return lately

    def passed(self) -> Mapping[TopicPartition, int]:
        return {MARKED: 9}


@asynccontextmanager
async def folded(follower: _Follower, path: Path) -> AsyncIterator[tuple[ViewStore, list[list[tuple[JobKey, State]]]]]:
    """The store after everything was read, and the changes of each commit that had any."""
    store = ViewStore.open(path / "view.db", cluster_id="cluster-1")
    commits: list[list[tuple[JobKey, State]]] = []
    reporter = SimpleNamespace(
        add=lambda report, *, positions, changes: commits.append(list(states(changes).items())) if changes else None
    )
    running = _folding(follower, store, reporter)
    try:
        await follower.is_through.wait()
        yield store, commits
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        store.close()


def test_only_a_few_queued_jobs_are_worth_waiting_behind() -> None:
    reader = BatchReader(NAMES, CODEC)
    assert reader.expects_more([queued(0)])
    assert reader.expects_more([queued(0), queued(1)])
    assert not reader.expects_more([])
    assert not reader.expects_more([queued(0), ended(0)])
    assert not reader.expects_more([queued(number) for number in range(17)])


@in_loop
async def test_a_job_and_its_end_are_one_commit_where_the_end_comes_soon(tmp_path: Path) -> None:
    follower = _Follower([queued(0)], [ended(0)])
    async with folded(follower, tmp_path) as (store, commits):
        assert commits == [[(JobKey("job-0"), State.SUCCEEDED)]]
        assert store.positions() == {JOBS: 1, STATUS: 1}
    assert follower.timeouts[1] == QUEUED_LINGER_SECONDS


@in_loop
async def test_a_job_is_shown_as_queued_where_nothing_comes_soon(tmp_path: Path) -> None:
    async with folded(_Follower([queued(0)], []), tmp_path) as (_, commits):
        assert commits == [[(JobKey("job-0"), State.QUEUED)]]


@in_loop
async def test_nothing_is_lost_where_the_log_breaks_off_while_the_fold_waits(tmp_path: Path) -> None:
    follower = _Follower([queued(0)], KafkaConnectionError(), [queued(1)], [])
    async with folded(follower, tmp_path) as (store, commits):
        assert commits == [[(JobKey("job-0"), State.QUEUED)], [(JobKey("job-1"), State.QUEUED)]]
        assert store.positions() == {JOBS: 2}


@in_loop
async def test_ends_are_shown_at_once(tmp_path: Path) -> None:
    follower = _Follower([ended(0)])
    async with folded(follower, tmp_path) as (_, commits):
        assert commits == [[(JobKey("job-0"), State.SUCCEEDED)]]
    assert QUEUED_LINGER_SECONDS not in follower.timeouts


@in_loop
async def test_reports_of_commits_name_what_was_passed_lately_and_the_others_all_that_was(tmp_path: Path) -> None:
    follower = _Follower([ended(0)], [ended(1)], [])
    follower.passed_since = {MARKED: 8}
    told: list[Mapping[TopicPartition, int]] = []
    reporter = SimpleNamespace(add=lambda report, *, positions, changes: told.append(dict(positions)))
    store = ViewStore.open(tmp_path / "view.db", cluster_id="cluster-1")
    running = _folding(follower, store, reporter)
    await follower.is_through.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    store.close()
    assert told == [{MARKED: 9}, {STATUS: 1, MARKED: 8}, {STATUS: 2}, {MARKED: 9}]


def _folding(follower: _Follower, store: ViewStore, reporter: SimpleNamespace) -> asyncio.Future[None]:
    fold = Fold(
        follower=cast(Follower, follower),
        store=store,
        reader=BatchReader(NAMES, CODEC),
        registry=cast(Registry, None),
        reporter=cast(Reporter, reporter),
        discovery_interval=60.0,
    )
    return asyncio.ensure_future(fold.run())
