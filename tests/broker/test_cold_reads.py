"""Stored ranges that are not in memory: told before they are sent, read in a thread, and nobody else waits."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from logqueue.broker.network import cold_reads, connection
from logqueue.broker.network.cold_reads import PROBE_BYTES, PROBE_STEP_BYTES, leading_cached, read_cached, read_in
from logqueue.broker.network.limits import INLINE_RECORDS_BYTES, JOIN_BYTES
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create_topic, fetch_request, produced, values_of

SIZE = 3 * PROBE_BYTES


@pytest.fixture
def stored(tmp_path: Path) -> int:
    path = tmp_path / "stored"
    path.write_bytes(os.urandom(SIZE))
    return os.open(path, os.O_RDONLY)


def evict(fd: int) -> None:
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def test_what_was_just_written_is_in_memory(stored: int) -> None:
    assert leading_cached(stored, 0, SIZE) == PROBE_BYTES
    assert leading_cached(stored, 5, 100) == 100
    assert leading_cached(stored, SIZE - 10, 10) == 10
    os.close(stored)


def test_what_was_evicted_is_not_until_it_is_read(stored: int) -> None:
    evict(stored)
    if leading_cached(stored, 0, 1):
        pytest.skip("this file system keeps everything in memory, or cannot tell")
    assert leading_cached(stored, 0, SIZE) == 0
    read_in(stored, 0, 2 * PROBE_STEP_BYTES)
    assert 2 * PROBE_STEP_BYTES <= leading_cached(stored, 0, SIZE) <= PROBE_BYTES
    read_in(stored, 0, SIZE)
    assert leading_cached(stored, SIZE - PROBE_BYTES, PROBE_BYTES) == PROBE_BYTES
    os.close(stored)


def test_a_cold_fetch_waits_for_its_thread_and_others_are_served(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    is_warm, may_read = threading.Event(), threading.Event()

    def cold_until_read(fd: int, position: int, size: int) -> int:
        return leading_cached(fd, position, size) if is_warm.is_set() else 0

    def read_when_told(fd: int, position: int, size: int) -> None:
        assert may_read.wait(20)
        cold_reads.read_in(fd, position, size)
        is_warm.set()

    monkeypatch.setattr(connection, "leading_cached", cold_until_read)
    monkeypatch.setattr(connection, "read_in", read_when_told)
    with (
        EmbeddedBroker(tmp_path, fsync=False) as broker,
        Wire(broker.bootstrap) as cold,
        Wire(broker.bootstrap) as warm,
    ):
        create_topic(warm, "t")
        for number in range(3):
            produced(warm, "t", batch(b"%d" % number * 50_000))
        number = cold.send(12, fetch_request("t", 0))
        for other in ("a", "b", "c"):
            create_topic(warm, other)  # the loop is free
        may_read.set()
        answered, response = cold.receive()
        assert answered == number
        assert [value[:1] for value in values_of(response) if value] == [b"0", b"1", b"2"]


def test_a_connection_that_ends_while_its_range_is_read_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    is_reading, may_read = threading.Event(), threading.Event()

    def read_when_told(fd: int, position: int, size: int) -> None:
        is_reading.set()
        assert may_read.wait(20)

    monkeypatch.setattr(connection, "leading_cached", lambda fd, position, size: 0)
    monkeypatch.setattr(connection, "read_in", read_when_told)
    with EmbeddedBroker(tmp_path, fsync=False) as broker, Wire(broker.bootstrap) as warm:
        create_topic(warm, "t")
        produced(warm, "t", batch(b"x" * 50_000))
        with Wire(broker.bootstrap) as cold:
            cold.send(12, fetch_request("t", 0))
            assert is_reading.wait(20)
        may_read.set()
        create_topic(warm, "other")


def test_a_small_range_is_read_as_a_whole_or_not_at_all(stored: int) -> None:
    data = os.pread(stored, 100, SIZE - 100)
    assert bytes(read_cached(stored, SIZE - 100, 100) or b"") == data
    assert read_cached(stored, SIZE - 100, 101) is None
    evict(stored)
    if leading_cached(stored, 0, 1):
        pytest.skip("this file system keeps everything in memory, or cannot tell")
    # Not where that has just looked: a look begins to read ahead.
    assert read_cached(stored, 2 * PROBE_BYTES, 100) is None
    os.close(stored)


@pytest.mark.parametrize("is_cold", [False, True])
@pytest.mark.parametrize("size", [1, INLINE_RECORDS_BYTES - 200, INLINE_RECORDS_BYTES + 1, JOIN_BYTES])
def test_records_arrive_whole_however_they_are_sent(
    is_cold: bool, size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if is_cold:
        monkeypatch.setattr(connection, "read_cached", lambda *_: None)
    value = os.urandom(size)
    with EmbeddedBroker(tmp_path, fsync=False) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        produced(wire, "t", batch(value))
        numbers = [wire.send(12, fetch_request("t", 0)) for _ in range(7)]  # several answers leave together
        for number in numbers:
            answered, response = wire.receive()
            assert answered == number
            assert values_of(response) == [value]
