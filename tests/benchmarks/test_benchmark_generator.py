"""The load generator: every request is answered once, errors end it, and the broker's records say what was sent."""

from __future__ import annotations

import shutil

import pytest

from benchmarks.generator import load
from benchmarks.generator.target import Target, batch_of, difference, one_record
from benchmarks.peers.missing import Missing
from benchmarks.workloads import requests
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, list_offset

needs_compiler = pytest.mark.skipif(shutil.which(load.COMPILER) is None, reason="no C compiler")
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
        done = load.parked(
            bootstrap,
            fetch=target.fetch(offset, max_wait_ms=5_000),
            produce=target.produce(one_record(50)),
            check=target.fetch_check,
            produce_check=target.produce_check,
            offset_position=target.fetch_offset_position,
            offset=offset,
            cpu_seconds=no_cpu,
            park_us=100,
            warm_up=5,
            requests=20,
        )
        assert done.requests == 20
        assert end_of(bootstrap) == offset + 25


def test_processor_time_is_shared_out_over_the_requests():
    done = load.Load(requests=1_000, seconds=2.0, p50_us=1.0, p99_us=2.0, max_us=3.0, cpu_seconds=0.01)
    assert done.requests_per_second == 500
    assert done.cpu_us_per_request == pytest.approx(10)


def test_without_a_compiler_it_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(load, "CACHE", tmp_path)
    monkeypatch.setattr(load, "COMPILER", "no-such-compiler")
    with pytest.raises(Missing, match="no-such-compiler"):
        load.program()


def test_cells_are_connections_by_depth():
    assert requests.cell_of("16x4") == (16, 4)
    for wrong in ("16", "x4", "16x", "axb"):
        with pytest.raises(ValueError, match="CONNECTIONSxDEPTH"):
            requests.cell_of(wrong)


def test_the_first_difference_is_found():
    assert difference(lambda number: b"same" + bytes([number]), 0, 1) == 4
    with pytest.raises(ValueError, match="same"):
        difference(lambda number: b"same", 0, 1)
