"""The workloads of the log that run in seconds: cells, clients, codec and storage in process."""

from __future__ import annotations

import pytest

from benchmarks import logs, timing
from benchmarks.clients import CLIENTS
from benchmarks.report import InvalidSetting
from benchmarks.workloads import codec, log, start, storage


def test_cells_of_the_log_are_partitions_codec_acks_and_bytes():
    assert log.cells_of("16/lz4/-1/1024 1/none/1/100") == [log.Cell(16, "lz4", -1, 1024), log.Cell(1, "none", 1, 100)]
    assert str(log.cells_of("16/lz4/-1/1024")[0]) == "16/lz4/-1/1024"
    for wrong in ("1/none/1", "1/none/0/100", "x/none/1/100", "1/brotli/1/100"):
        with pytest.raises(InvalidSetting, match="PARTITIONS/CODEC/ACKS/BYTES"):
            log.cells_of(wrong)


def test_all_cells_are_the_whole_matrix():
    cells = log.cells_of("all")
    assert len(cells) == len(set(cells)) == 24


def test_values_have_their_size_and_differ():
    for make, size in ((log.values_of, 100), (log.values_of, 1024), (lambda _: codec.values(1_000), 100)):
        values = make(size)
        assert {len(value) for value in values} == {size}
        assert len(set(values)) > 900


@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_brings_in_and_takes_out_all_records(client):
    settings = {**log.SETTINGS, "client": client, "records": 3_000, "cells": "3/zstd/-1/100 1/none/1/1024"}
    figures = log.run(settings)
    assert figures["3/zstd/-1/100 consume records/s"] > 0
    assert figures["1/none/1/1024 produce MB/s"] > 0


def test_an_unknown_client_or_log_is_refused():
    with pytest.raises(InvalidSetting, match="aiokafka"):
        log.run({**log.SETTINGS, "client": "telepathy"})
    with pytest.raises(ValueError, match="no log 'papyrus'"), logs.log("papyrus"):
        pass


def test_calls_are_counted_in_blocks_that_the_clock_can_see():
    calls = []
    rate = timing.calls_per_second(lambda: calls.append(1), 0)
    assert rate > 1_000
    assert len(calls) > 100


def test_the_codec_is_measured_in_every_codec():
    figures = codec.run({**codec.SETTINGS, "seconds": 0, "records": 20})
    assert {f"build, {name}, MB/s" for name in ("none", "lz4", "zstd")} <= figures.keys()
    assert all(figure > 0 for figure in figures.values())


def test_storage_appends_finds_and_compacts():
    figures = storage.run({"megabytes": 4, "segment_mib": 1, "seconds": 0, "keys": 100})
    assert figures["compacted bytes left %"] < 20
    assert all(figure > 0 for figure in figures.values())


def test_a_broker_answers_and_so_do_the_fixtures():
    figures = start.run({"port": 0, "fixtures": 2})
    assert all(figure > 0 for figure in figures.values())
