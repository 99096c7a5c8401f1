"""The fold as a process: it can be killed, its file can be deleted, its parent can go, the log can be another one."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from confluent_kafka import Producer
from logqueue_consumers.view.job import Job
from logqueue_consumers.view.place import JobFilter
from logqueue_consumers.view.reader import ViewReader, ViewUnavailable
from logqueue_consumers.view.store import Batch, ViewStore
from logqueue_schemas.avro import content_id
from logqueue_schemas.job_status import SCHEMA, JobStatus, State, StatusCodec

from logqueue.ids import TopicPartition
from logqueue.jobs.settings import variable_name
from tests.conftest import Engine

WAIT_SECONDS = 30
FUTURE = 1_000_000
"""A position that no log here reaches."""
T = TypeVar("T")
CODEC = StatusCodec(content_id(SCHEMA))


class FoldProcess:
    """`python -m logqueue_consumers.view`, alone or with us as its parent."""

    def __init__(self, engine: Engine, prefix: str, path: Path, *arguments: str, **options: object) -> None:
        environment = os.environ | {
            variable_name("bootstrap"): engine.bootstrap,
            variable_name("topic_prefix"): prefix,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "logqueue_consumers.view", "--path", str(path), *arguments],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            **options,  # type: ignore[call-overload]
        )
        self.path = path

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit code and what it said after a signal."""
        self.process.send_signal(number)
        _, words = self.process.communicate(timeout=WAIT_SECONDS)
        return self.process.returncode, words


Folds = Callable[..., FoldProcess]


@pytest.fixture
def folds() -> Iterator[Folds]:
    """Starts folds; whatever of them is left when the test ends, is killed."""
    started: list[FoldProcess] = []

    def start(*arguments: Any, **options: Any) -> FoldProcess:
        started.append(FoldProcess(*arguments, **options))
        return started[-1]

    yield start
    for fold in started:
        if fold.process.poll() is None:
            fold.process.kill()
            fold.process.communicate()


def until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"not {what} in time"
        time.sleep(0.02)


def read_view(path: Path, read: Callable[[ViewReader], T], *, otherwise: T) -> T:
    """What is read out of the view; `otherwise` while there is none, or it is being replaced under the reader."""
    try:
        reader = ViewReader.open(path)
        try:
            return read(reader)
        finally:
            reader.close()
    except (ViewUnavailable, sqlite3.OperationalError):
        return otherwise


def jobs_in(path: Path) -> list[Job]:
    return read_view(path, lambda reader: list(reader.jobs(JobFilter(), limit=10_000).jobs), otherwise=[])


def counted(path: Path) -> int:
    def count(reader: ViewReader) -> int:
        return sum(sum(queue.counts.values()) for queue in reader.queues())

    return read_view(path, count, otherwise=-1)


def produce(engine: Engine, prefix: str, numbers: range) -> None:
    """Queued jobs, every second of them ended; statuses go out first, as they may be read first."""
    producer = Producer({"bootstrap.servers": engine.bootstrap, "acks": "all"})
    for number in numbers:
        if number % 2:
            status = JobStatus(
                id=f"job-{number}",
                type="t",
                queue="mail",
                tenant=f"tenant-{number % 7}",
                group="app",
                state=State.SUCCEEDED,
                rank=5,
                sequence=number,
                at=1_700_000_000_000_000 + number,
                topic=f"{prefix}jobs.mail",
                partition=0,
                offset=number,
                result=b"%d" % number,
            )
            producer.produce(f"{prefix}jobs.status", CODEC.encode(status), key=status.key)
        headers: list[tuple[str, str | bytes | None]] = [("ce_id", f"job-{number}"), ("ce_type", "t")]
        producer.produce(f"{prefix}jobs.mail", b"{}", key=f"tenant-{number % 7}", headers=headers)
    assert producer.flush(WAIT_SECONDS) == 0


def ended(path: Path) -> int:
    return sum(job.outcome.state.name == "SUCCEEDED" for job in jobs_in(path))


def is_complete(path: Path, jobs: int) -> bool:
    return len(jobs_in(path)) == jobs and ended(path) == jobs // 2 and counted(path) == jobs


def test_a_view_that_was_deleted_comes_back_the_same(folds: Folds, engine: Engine, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "view.db"
    fold = folds(engine, prefix, path)
    produce(engine, prefix, range(200))
    until(lambda: is_complete(path, 200), "folded")
    before = jobs_in(path)
    assert fold.end() == (0, "")
    path.unlink()
    fold = folds(engine, prefix, path)
    until(lambda: is_complete(path, 200), "folded again")
    assert jobs_in(path) == before
    assert fold.end() == (0, "")


def test_a_killed_fold_goes_on_where_it_was(folds: Folds, engine: Engine, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "view.db"
    fold = folds(engine, prefix, path)
    produce(engine, prefix, range(100))
    until(lambda: len(jobs_in(path)) > 0, "begun")
    fold.end(signal.SIGKILL)
    produce(engine, prefix, range(100, 300))
    fold = folds(engine, prefix, path)
    until(lambda: is_complete(path, 300), "folded")
    assert fold.end() == (0, "")


def test_a_view_of_a_lost_log_is_made_anew(folds: Folds, engine: Engine, prefix: str, tmp_path: Path) -> None:
    """Positions behind the end of the log: what was read is gone, and other jobs lie at those offsets."""
    path = tmp_path / "view.db"
    fold = folds(engine, prefix, path)
    produce(engine, prefix, range(10))
    until(lambda: is_complete(path, 10), "folded")
    fold.end()
    with_future = ViewStore.open(path, cluster_id=_cluster_of(path))
    with_future.apply(Batch(positions={TopicPartition(f"{prefix}jobs.mail", 0): FUTURE}))
    with_future.close()
    fold = folds(engine, prefix, path)
    until(lambda: _position(path, f"{prefix}jobs.mail") < FUTURE and is_complete(path, 10), "made anew")
    code, words = fold.end()
    assert code == 0
    assert "made from another log" in words


def _cluster_of(path: Path) -> str:
    db = sqlite3.connect(path)
    cluster_id: str = db.execute("SELECT value FROM meta WHERE key = 'cluster_id'").fetchone()[0]
    db.close()
    return cluster_id


def _position(path: Path, topic: str) -> int:
    return read_view(path, lambda reader: reader.positions().get(TopicPartition(topic, 0), 0), otherwise=FUTURE)


def test_a_fold_does_not_outlive_its_parent(folds: Folds, engine: Engine, prefix: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    fold = FoldProcess(
        engine, prefix, tmp_path / "view.db", "--report-fd", str(writing), stdin=subprocess.PIPE, pass_fds=(writing,)
    )
    os.close(writing)
    assert os.read(reading, 1)  # it reports
    assert fold.process.stdin is not None
    fold.process.stdin.close()
    assert fold.process.wait(WAIT_SECONDS) == 0
    os.close(reading)
    assert fold.process.stderr is not None
    fold.process.stderr.close()


def test_two_folds_do_not_write_one_view(folds: Folds, engine: Engine, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "view.db"
    fold = folds(engine, prefix, path)
    until(path.exists, "begun")
    second = folds(engine, prefix, path)
    _, words = second.process.communicate(timeout=WAIT_SECONDS)
    assert second.process.returncode == 1
    assert "being written by another process" in words
    assert fold.end() == (0, "")


def test_a_log_that_is_not_there_is_named(folds: Folds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable_name("connect_timeout_s"), "0.5")
    fold = folds(Engine("nowhere", "127.0.0.1:1"), "", tmp_path / "view.db")
    _, words = fold.process.communicate(timeout=WAIT_SECONDS)
    assert fold.process.returncode == 1
    assert "127.0.0.1:1" in words
    assert "Traceback" not in words
