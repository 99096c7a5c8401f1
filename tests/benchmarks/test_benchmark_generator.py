"""The load generator: every request is answered once, errors end it, and the broker's records say what was sent."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys

import pytest

from benchmarks.generator import build, load, slow_disk
from benchmarks.generator.target import Target, batch_of, difference, one_record
from benchmarks.peers.missing import Missing
from benchmarks.workloads import durable, idle, requests
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, list_offset

needs_compiler = pytest.mark.skipif(shutil.which(build.COMPILER) is None, reason="no C compiler")
LATEST = -1


@pytest.fixture(scope="module")
def bootstrap():
    with EmbeddedBroker() as broker:
        yield broker.bootstrap


def end_of(bootstrap: str) -> int:
    with Wire(bootstrap) as wire:
        return list_offset(wire, "bench", LATEST).offset


def no_cpu() -> float:
    return 0.0


@needs_compiler
@pytest.mark.parametrize(("connections", "depth"), [(1, 1), (1, 7), (5, 1), (5, 7)])
def test_a_bounded_load_leaves_exactly_its_records(bootstrap, connections, depth):
    with Target(bootstrap) as target:
        before = target.append(one_record(100)) + 1
        done = load.closed(
            bootstrap,
            [target.produce(one_record(100))],
            check=target.produce_check,
            cpu_seconds=no_cpu,
            connections=connections,
            depth=depth,
            warm_up=30,
            requests=203,
        )
        assert done.requests == 203
        assert end_of(bootstrap) == before + 233
        assert 0 < done.p50_us <= done.p99_us <= done.max_us


@needs_compiler
@pytest.mark.parametrize("version", [3, 8, 9, 13])
def test_names_and_ids_of_topics_are_sent_as_the_version_says(bootstrap, version):
    with Target(bootstrap, version=version) as target:
        frame = target.produce(one_record(10))
        load.closed(bootstrap, [frame], check=target.produce_check, cpu_seconds=no_cpu, requests=3)
        assert frame.count(b"bench") == (2 if version < 13 else 1)  # the client has the same name


@needs_compiler
def test_an_error_in_an_answer_ends_the_load(bootstrap):
    with Target(bootstrap) as target:
        broken = bytearray(one_record(100))
        broken[-1] ^= 1
        with pytest.raises(RuntimeError, match="error code 2"):
            load.closed(
                bootstrap, [target.produce(bytes(broken))], check=target.produce_check, cpu_seconds=no_cpu, requests=1
            )


@needs_compiler
@pytest.mark.parametrize("connections", [1, 2])
def test_a_broker_that_answers_no_more_ends_the_load(bootstrap, monkeypatch, connections):
    monkeypatch.setattr(load, "ANSWER_TIMEOUT_SECONDS", 1)
    with Target(bootstrap) as target, socket.create_server(("127.0.0.1", 0)) as silent:
        frame, check = target.produce(one_record(10)), target.produce_check
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RuntimeError, match="no answer within 1 s"):
            load.closed(address, [frame], check=check, cpu_seconds=no_cpu, connections=connections, requests=3)


@needs_compiler
def test_a_generator_is_not_waited_for_when_the_brokers_clock_cannot_be_read(bootstrap):
    def gone() -> float:
        raise ProcessLookupError("no such process")

    with Target(bootstrap) as target, pytest.raises(ProcessLookupError):
        load.closed(
            bootstrap, [target.produce(one_record(10))], check=target.produce_check, cpu_seconds=gone, seconds=60
        )


def parked(bootstrap, target, offset, **bounds):
    return load.parked(
        bootstrap,
        fetch=target.fetch(offset, max_wait_ms=5_000),
        produce=target.produce(one_record(50)),
        check=target.fetch_check,
        produce_check=target.produce_check,
        offset_position=target.fetch_offset_position,
        offset=offset,
        cpu_seconds=no_cpu,
        **bounds,
    )


@needs_compiler
def test_a_fetch_may_be_parked_for_more_than_a_second(bootstrap):
    with Target(bootstrap) as target:
        offset = target.append(one_record(50)) + 1
        done = parked(bootstrap, target, offset, park_us=1_100_000, warm_up=0, requests=1)
        assert done.seconds > 1.1


@needs_compiler
def test_a_large_fetch_is_read_whole(bootstrap):
    with Target(bootstrap) as target:
        target.append(batch_of(500_000))
        frame = target.fetch(end_of(bootstrap) - 500)
        done = load.closed(bootstrap, [frame], check=target.fetch_check, cpu_seconds=no_cpu, requests=5)
        assert done.requests == 5


@needs_compiler
def test_parked_fetches_get_each_record_in_turn(bootstrap):
    with Target(bootstrap) as target:
        offset = target.append(one_record(50)) + 1
        done = parked(bootstrap, target, offset, park_us=100, warm_up=5, requests=20)
        assert done.requests == 20
        assert end_of(bootstrap) == offset + 25


def test_processor_time_is_shared_out_over_the_requests():
    done = load.Load(requests=1_000, seconds=2.0, p50_us=1.0, p99_us=2.0, max_us=3.0, cpu_seconds=0.01)
    assert done.requests_per_second == 500
    assert done.cpu_us_per_request == pytest.approx(10)


def test_without_a_compiler_it_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "CACHE", tmp_path)
    monkeypatch.setattr(build, "COMPILER", "no-such-compiler")
    with pytest.raises(Missing, match="no-such-compiler"):
        load.program()


@needs_compiler
def test_what_cannot_be_compiled_is_missing_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "CACHE", tmp_path / "cache")
    (tmp_path / "wrong.c").write_text("no C")
    with pytest.raises(Missing, match=r"wrong.c could not be compiled"):
        build.built(tmp_path / "wrong.c")
    assert not list((tmp_path / "cache").iterdir())


FSYNC = """
import os, sys, time
with open(sys.argv[1], "wb") as file:
    for sync in (os.fsync, os.fdatasync):
        began = time.perf_counter()
        sync(file.fileno())
        print(time.perf_counter() - began)
"""


@needs_compiler
def test_on_a_slower_disk_both_kinds_of_fsync_take_that_much_longer(tmp_path):
    command = [sys.executable, "-c", FSYNC, str(tmp_path / "file")]
    env = {**os.environ, **slow_disk.slowed(150_000)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert all(float(word) >= 0.15 for word in done.stdout.split())
    assert not done.stderr


def test_a_slow_disk_is_asked_less_often():
    assert len(slow_disk.fsync_times_us(3)) == 3
    assert len(slow_disk.fsync_times_us(3, size=300, limit_seconds=0)) == 1


def test_no_delay_needs_no_library():
    assert slow_disk.slowed(0) == {}


def test_exported_variables_are_gone_afterwards(monkeypatch):
    monkeypatch.setenv("TRIED_BEFORE", "old")
    with slow_disk.exported({"TRIED_BEFORE": "new", "TRIED": "x"}):
        assert (os.environ["TRIED_BEFORE"], os.environ["TRIED"]) == ("new", "x")
    assert os.environ["TRIED_BEFORE"] == "old"
    assert "TRIED" not in os.environ


@needs_compiler
def test_acknowledgements_wait_for_the_slower_disk():
    settings = {**durable.SETTINGS, "cells": "1x1", "delays_us": "20000", "seconds": 1, "warm_up": 2}
    assert durable.run(settings)["+20000 us 1x1 p50 us"] > 20_000


@needs_compiler
def test_idle_connections_cost_memory_and_waiting_fetches_are_answered_when_their_time_is_over():
    figures = idle.run({"connections": 30, "seconds": 1, "max_wait_ms": 200})
    assert figures["waiting: answered after p99 ms"] >= 200
    assert figures["waiting: fetches/s"] <= 150
    assert figures["waiting: RSS MiB"] > 10


def test_cells_are_connections_by_depth():
    assert requests.cell_of("16x4") == (16, 4)
    for wrong in ("16", "x4", "16x", "axb"):
        with pytest.raises(ValueError, match="CONNECTIONSxDEPTH"):
            requests.cell_of(wrong)


def test_the_first_difference_is_found():
    assert difference(lambda number: b"same" + bytes([number]), 0, 1) == 4
    with pytest.raises(ValueError, match="same"):
        difference(lambda number: b"same", 0, 1)
