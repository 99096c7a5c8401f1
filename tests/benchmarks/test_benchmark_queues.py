"""What the comparisons of queues rest on: notes of jobs, drivers of peers, and one small run of ours."""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path

import pytest

from benchmarks import logs, stack
from benchmarks.jobs import http, queues, work
from benchmarks.jobs.http import Connection, content_length, request
from benchmarks.jobs.worker import Worker
from benchmarks.peers import driver, environment
from benchmarks.peers.missing import Missing
from benchmarks.peers.promises import JOB_PEERS
from benchmarks.workloads import alone, crash, latency, scale


def test_notes_tell_what_never_ended_and_what_began_twice(tmp_path):
    path = tmp_path / "notes"
    path.write_text("b 0 1.0\nb 1 1.5\ne 0 2.0\nb 0 3.0\ne 0 4.0\ne 1")
    notes = work.read_notes(path)
    assert notes.missing(3) == 2  # the end of job 1 is still being written
    assert notes.repeated == 1
    assert notes.repeated_after_end(2.5) == 1
    assert notes.repeated_after_end(2.0) == 0
    assert notes.ends == {0: 2.0}
    assert notes.first_begins == {0: 1.0, 1: 1.5}


def test_without_a_file_nothing_was_noted(tmp_path):
    assert work.read_notes(tmp_path / "absent").missing(5) == 5


def test_a_worker_that_ends_before_it_is_ready_is_told_with_its_last_words():
    with pytest.raises(RuntimeError, match="no such luck"):
        Worker([sys.executable, "-c", "print('no such luck')"], ready="ready", env={})


def test_a_worker_that_is_never_ready_is_not_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.jobs.worker.READY_SECONDS", 1)
    file = tmp_path / "pid"
    code = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(RuntimeError, match="never said 'ready'"):
        Worker([sys.executable, "-c", code], ready="ready", env={})
    assert not file.exists() or not Path(f"/proc/{file.read_text()}").exists()


def test_a_killed_worker_takes_its_children_along(tmp_path):
    file = tmp_path / "child"
    code = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        f" open({str(file)!r}, 'w').write(str(child.pid)); print('ready', flush=True); child.wait()"
    )
    worker = Worker([sys.executable, "-c", code], ready="ready", env={})
    worker.kill()
    state = Path(f"/proc/{file.read_text()}/stat")

    def is_gone() -> bool:
        try:
            return state.read_text().rsplit(") ", 1)[1][0] == "Z"
        except FileNotFoundError:
            return True

    assert queues.wait_until(is_gone, limit_seconds=10)


def test_a_driver_answers_line_by_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO('["double", 4]\n["double", 5]\n'))
    driver.serve({"double": lambda number: 2 * number})
    assert capsys.readouterr().out.split() == ["8", "10"]


STUBBORN = """
import os, time
input()
print(os.getpid(), flush=True)
time.sleep(60)
"""


def test_a_driver_that_answers_no_more_is_told_and_killed(monkeypatch):
    monkeypatch.setattr(stack, "STOP_TIMEOUT_SECONDS", 0.2)
    with (
        pytest.raises(RuntimeError, match="did not answer 'finished' within"),
        driver.Driver([sys.executable, "-c", STUBBORN], {}) as silent,
    ):
        pid = silent.call("enqueue")
        monkeypatch.setattr(driver, "ANSWER_SECONDS", 0.2)
        silent.call("finished")
    assert not Path(f"/proc/{pid}").exists()


def test_a_driver_that_has_ended_is_told():
    with (
        pytest.raises(RuntimeError, match="ended with 3 at 'enqueue'"),
        driver.Driver([sys.executable, "-c", "input(); exit(3)"], {}) as ended,
    ):
        ended.call("enqueue")


def test_a_count_that_reads_a_table_is_asked_for_seldom():
    now, counts = [0.0], iter(range(10, 20))
    count = driver.seldom(lambda: next(counts), clock=lambda: now[0])
    seen = []
    for at in (0.0, 0.05, 0.11, 0.15, 0.3):
        now[0] = at
        seen.append(count())
    assert seen == [10, 10, 11, 11, 12]


def test_numbers_of_jobs_come_in_batches():
    assert [list(each) for each in driver.batches(5, 5, 2)] == [[5, 6], [7, 8], [9]]
    assert not list(driver.batches(5, 0))


def test_an_asynchronous_client_is_timed_until_accepted_and_until_the_result_is_there():
    sent = []

    async def send(number, ms):
        sent.append((number, ms))

        async def result():
            sent.append(f"result of {number}")

        return result

    loop = asyncio.new_event_loop()
    try:
        sender = driver.AsyncSender(loop, send)
        sender.enqueue(3, 2, 7)
        assert (sent, sender.entered) == ([(3, 7), (4, 7)], 2)
        times = sender.latency(2, 1e6)
    finally:
        loop.close()
    assert sorted(map(str, sent[2:])) == ["(0, 0)", "(1, 0)", "result of 0", "result of 1"]
    assert all(0 <= accepted <= ended for accepted, ended in times)


def test_every_driver_has_its_packages_named():
    named = environment.REQUIREMENTS.keys() | environment.NODE_REQUIREMENTS.keys()
    assert set(queues.PEERS) == named - set(logs.PEERS) == JOB_PEERS.keys()
    for peer in queues.PEERS:
        ending = "js" if peer in environment.NODE_REQUIREMENTS else "py"
        name = environment.DRIVERS.get(peer, peer)
        assert (driver.ROOT / "benchmarks" / "peers" / f"drive_{name}.{ending}").is_file()


def test_a_peer_that_cannot_be_installed_is_missing_and_leaves_nothing_complete(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "CACHE", tmp_path)
    monkeypatch.setattr(environment.sys, "executable", "/bin/false")
    with pytest.raises(Missing, match="rq could not be installed"):
        environment.python("rq")
    assert not list(tmp_path.glob("*/complete"))


def test_an_answer_of_the_api_that_is_no_success_is_an_error():
    assert content_length(b"HTTP/1.1 202 Accepted\r\nContent-Length: 12\r\n\r\n") == 12
    with pytest.raises(ValueError, match="404"):
        content_length(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n")
    with pytest.raises(ValueError, match="without content-length"):
        content_length(b"HTTP/1.1 200 OK\r\n\r\n")


@pytest.mark.parametrize("pieces", [1, 2, 5, 1_000])
def test_answers_are_read_however_they_are_cut(pieces):
    answer = b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\nx: y\r\n\r\n{"id": 7}'

    async def serve(reader, writer):
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            size = -(-len(answer) // pieces)
            for start in range(0, len(answer), size):
                writer.write(answer[start : start + size])
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()

    async def ask() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            connection = await Connection.open(f"http://127.0.0.1:{port}")
            assert [await connection.ask(request("GET", "/")) for _ in range(2)] == [b'{"id": 7}'] * 2
            with pytest.raises((EOFError, OSError)):
                await connection.ask(request("GET", "/"))
            connection.close()

    http.run(ask())


def test_an_answer_that_is_no_success_ends_the_request():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async def ask() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            connection = await Connection.open(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            with pytest.raises(ValueError, match="503"):
                await connection.ask(request("GET", "/"))

    http.run(ask())


def test_a_request_tells_the_length_of_its_body():
    assert request("POST", "/x", b"abc").endswith(b"content-length: 3\r\n\r\nabc")


def test_cells_of_scale_are_three_numbers():
    assert scale.cell_of("20000/100/16") == (20_000, 100, 16)
    for wrong in ("1/2", "1/2/x", "1/2/3/4", "0/1/1"):
        with pytest.raises(ValueError, match="JOBS/TENANTS/PARTITIONS"):
            scale.cell_of(wrong)


class Scripted:
    """A queue whose count of ended jobs is a script."""

    def __init__(self, *counts: int) -> None:
        self.counts = list(counts)
        self.is_ended = False

    def enqueue(self, jobs: int, *, ms: int = 0, first: int = 0) -> float:
        return 0.0

    def known(self) -> int:
        return 100

    def finished(self) -> int:
        return self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]

    def worker(self, *, concurrency: int) -> Scripted:
        return self

    def cpu_seconds(self) -> float:
        return 0.0

    def end(self) -> None:
        self.is_ended = True


def test_a_drain_counts_from_the_moment_its_worker_is_ready():
    queue = Scripted(10, 40, 100)
    assert queues.drain(queue, 100, concurrency=1, limit_seconds=10).jobs == 90
    assert queue.is_ended


@pytest.mark.parametrize(("counts", "problem"), [((60, 100), "take more jobs"), ((0, 99), "99 of 100")])
def test_a_drain_that_cannot_be_measured_is_an_error_and_ends_its_worker(counts, problem):
    queue = Scripted(*counts)
    with pytest.raises(RuntimeError, match=problem):
        queues.drain(queue, 100, concurrency=1, limit_seconds=0)
    assert queue.is_ended


def test_rates_of_a_drain():
    drained = queues.Drained(jobs=100, seconds=2.0, cpu_seconds=0.001)
    assert drained.jobs_per_second == 50
    assert drained.cpu_us_per_job == pytest.approx(10)


def test_after_a_kill_in_the_middle_nothing_of_ours_is_missing():
    figures = crash.run({"jobs": 60, "ms": 20, "concurrency": 4, "watch_seconds": 60})
    assert figures["missing at the end"] == 0
    assert figures["ended before the kill"] > 60 * crash.MIDDLE


def test_a_job_is_accepted_before_its_end_is_seen():
    figures = latency.run({**latency.SETTINGS, "rate": 20, "seconds": 1})
    assert 0 < figures["accepted p50 ms"] < figures["terminal p50 ms"]


def test_a_worker_alone_ends_all_jobs():
    figures = alone.run({**alone.SETTINGS, "jobs": 60_000, "limit_seconds": 60})
    assert figures["jobs/s"] > 0
    assert figures["worker CPU us/job"] > 0
