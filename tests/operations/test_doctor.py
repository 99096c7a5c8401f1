"""The doctor sees what is wrong, says what to do, and changes nothing."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from logqueue.broker.doctor.durability import Reader, judge_broker_settings, judge_readers
from logqueue.broker.doctor.finding import Finding, Status, worst
from logqueue.broker.doctor.folder import holder_of, look_at_folder
from logqueue.broker.doctor.machine import (
    file_system_of,
    judge_clock,
    judge_descriptors,
    judge_fsync,
    judge_inodes,
    judge_space,
    look_at_fsync,
    look_at_ports,
)
from logqueue.config import BrokerConfig
from logqueue.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from logqueue.protocol.messages.find_coordinator import FindCoordinatorRequest
from logqueue.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from logqueue.storage.topics import FILE_NAME as TOPICS_FILE
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create_topic, produced

GIB = 1 << 30
SECONDS = 60


def statuses(folder: Path, *, is_running: bool = False) -> dict[str, Finding]:
    return {finding.check: finding for finding in look_at_folder(folder, is_running=is_running)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with one topic, left cleanly."""
    with EmbeddedBroker(tmp_path / "data", fsync=False) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        produced(wire, "t", batch(b"x"))
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("free", "total", "status"),
    [
        (50 * GIB, 100 * GIB, Status.OK),
        (9 * GIB, 100 * GIB, Status.WARNING),
        (1 * GIB, 100 * GIB, Status.PROBLEM),
        (GIB // 8, GIB // 4, Status.PROBLEM),
    ],
)
def test_space_is_judged_by_share_and_by_bytes(free: int, total: int, status: Status) -> None:
    assert judge_space(free=free, total=total).status is status


def test_inodes_are_judged_by_share() -> None:
    assert [judge_inodes(free=n, total=100).status.value for n in (50, 5, 1)] == ["ok", "warning", "problem"]


@pytest.mark.parametrize(
    ("seconds", "kind", "status", "words"),
    [
        (0.002, "ext4", Status.OK, "2.00 ms"),
        (0.050, "ext4", Status.WARNING, "power-loss protection"),
        (0.000_001, "ext4", Status.WARNING, "too quick to be true"),
        (0.002, "tmpfs", Status.PROBLEM, "this is memory"),
        (0.002, "nfs4", Status.WARNING, "network"),
    ],
)
def test_fsync_is_judged_by_its_time_and_by_the_file_system(
    seconds: float, kind: str, status: Status, words: str
) -> None:
    finding = judge_fsync([seconds] * 3, kind=kind)
    assert finding.status is status
    assert words in finding.text + finding.hint


def test_fsync_is_really_measured_and_leaves_nothing_behind(tmp_path: Path) -> None:
    assert "ms in the middle" in look_at_fsync(tmp_path).text
    assert list(tmp_path.iterdir()) == []
    assert file_system_of(Path("/proc")) == "proc"


def test_a_clock_that_jumps_or_stands_in_the_past_is_seen() -> None:
    assert judge_clock(time.time(), jump=0.01).status is Status.OK
    assert "moved by -3.0 s" in judge_clock(time.time(), jump=-3.0).text
    assert judge_clock(86_400.0, jump=0.0).status is Status.PROBLEM


def test_too_few_descriptors_are_seen_before_connections_are_refused() -> None:
    def judged(allowed: int, *, partitions: int = 10) -> Status:
        return judge_descriptors(allowed, connections=10_000, partitions=partitions).status

    assert [judged(allowed) for allowed in (4096, 800, 400, 200)] == [
        Status.OK,
        Status.OK,
        Status.WARNING,
        Status.PROBLEM,
    ]
    assert judged(800, partitions=1000) is Status.WARNING


def test_a_taken_port_is_seen(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path, fsync=False) as broker:
        (finding,) = look_at_ports(BrokerConfig(port=broker.port))
        assert finding.status is Status.PROBLEM
        assert "is taken by another program" in finding.text


def test_a_clean_folder_is_fine(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    found = statuses(folder)
    assert worst(found.values()) is Status.OK
    assert found["last stop"].text == "clean"
    assert "1 topics, 1 partitions" in found["data folder"].text
    assert sorted(folder.rglob("*")) == before


def test_a_running_broker_is_seen_by_its_lock(tmp_path: Path, folder: Path) -> None:
    assert holder_of(folder) is None
    assert holder_of(tmp_path) is None
    with EmbeddedBroker(folder, fsync=False):
        assert holder_of(folder) == str(os.getpid())
    assert holder_of(folder) is None


def test_what_a_crash_left_is_told(folder: Path) -> None:
    (folder / ".kafka_cleanshutdown").unlink()
    (folder / "t-0" / "00000000000000000000.log.deleted").touch()
    (folder / "gone-0").mkdir()
    (folder / f"other-1.{'0' * 32}-delete").mkdir()
    found = statuses(folder)
    assert found["last stop"].status is Status.WARNING
    assert "1 deleted partition(s) and 1 unfinished file(s)" in found["leftovers"].text
    (folder / "t-0" / "00000000000000000000.log.deleted").unlink()
    (folder / f"other-1.{'0' * 32}-delete").rmdir()
    assert "folders of no topic: gone-0" in statuses(folder)["leftovers"].text


def test_records_from_the_future_are_told(folder: Path) -> None:
    ahead = round((time.time() + 7 * 86_400) * 1000)
    (folder / "t-0" / "00000000000000000000.timeindex").write_bytes(struct.pack(">qi", ahead, 0))
    finding = statuses(folder)["timestamps"]
    assert (finding.status, "t-0" in finding.text) == (Status.WARNING, True)


def test_a_damaged_file_of_topics_is_told(folder: Path) -> None:
    (folder / TOPICS_FILE).write_text("{")
    assert statuses(folder)["data folder"].status is Status.PROBLEM


def test_settings_that_lose_acknowledged_jobs_are_told() -> None:
    found = list(judge_broker_settings({"logqueue.fsync.acks.all": "false", "log.cleaner.threads": "0"}))
    assert [finding.status for finding in found] == [Status.WARNING, Status.WARNING]
    assert [finding.status for finding in judge_broker_settings({"num.partitions": "3"})] == [Status.OK]


def reader(**figures: int | None) -> Reader:
    known = {"partition": 0, "committed": 50, "start": 0, "end": 100, **figures}
    return Reader(group="g", topic="t", **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("figures", "status", "words"),
    [
        ({}, Status.OK, ""),
        ({"committed": 100, "retention_ms": 1000, "aged_end": 100}, Status.OK, ""),
        ({"start": 60}, Status.PROBLEM, "has lost 10 records"),
        ({"retention_ms": 1000, "aged_end": 51}, Status.WARNING, "about to be older than retention.ms"),
        ({"retention_ms": 1000, "aged_end": 50}, Status.OK, ""),
        ({"committed": 10, "size": 90, "retention_bytes": 100}, Status.WARNING, "beyond retention.bytes"),
        ({"committed": 10, "size": 50, "retention_bytes": 100}, Status.OK, ""),
    ],
)
def test_a_group_that_is_about_to_lose_records_is_told(figures: dict[str, int], status: Status, words: str) -> None:
    (finding,) = judge_readers([reader(**figures)])
    assert finding.status is status
    assert words in finding.text


def doctor(*words: str) -> tuple[int, dict[str, dict[str, str]]]:
    command = [sys.executable, "-m", "logqueue_api.cli.main", "doctor", "--json", *words]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOGQUEUE_")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, {item["check"]: item for item in json.loads(done.stdout)["items"]}


def test_the_command_asks_a_running_broker_too(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "data", fsync=False) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        produced(wire, "t", batch(*[b"x"] * 10))
        wire.call(3, FindCoordinatorRequest(key="g"))
        part = OffsetCommitRequestPartition(partition_index=0, committed_offset=4)
        request = OffsetCommitRequest(group_id="g", topics=[OffsetCommitRequestTopic(name="t", partitions=[part])])
        wire.call(8, request)
        gone = DeleteRecordsTopic(name="t", partitions=[DeleteRecordsPartition(partition_index=0, offset=7)])
        wire.call(2, DeleteRecordsRequest(topics=[gone], timeout_ms=1000))
        code, found = doctor("--data-dir", str(broker.data_dir), "--bootstrap", broker.bootstrap)
    assert code == 1
    assert found["groups"]["status"] == "problem"
    assert "group g in t-0 has lost 3 records" in found["groups"]["text"]
    assert found["settings"]["status"] == "warning"
    assert "answered within" in found["broker"]["text"]


def test_a_broker_that_does_not_answer_is_a_problem_of_its_own(folder: Path) -> None:
    code, found = doctor("--data-dir", str(folder), "--bootstrap", "127.0.0.1:1")
    assert (code, found["broker"]["status"], found["data folder"]["status"]) == (1, "problem", "ok")


def test_warnings_count_where_they_are_asked_to(folder: Path) -> None:
    (folder / ".kafka_cleanshutdown").unlink()
    config = folder.parent / "server.properties"
    config.write_text(f"log.dirs={folder}\nport=0\n")
    assert doctor("--config", str(config))[0] == 0
    assert doctor("--config", str(config), "--strict")[0] == 1
