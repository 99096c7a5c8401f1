"""What does one produce request of one record cost the broker, and how many a second does it answer?

A C program sends prepared requests, so no client's cost is in the figures: closed loop at CxD, C connections with D
unanswered requests each. acks=1 does not wait for the disk; acks=-1 does with fsync=1. The broker's processor time for
a request is the figure to compare on a busy machine. librdkafka's mock (`--vs mock`) keeps a few MB in memory and
checks nothing.
"""

from __future__ import annotations

from benchmarks import logs
from benchmarks.generator import load
from benchmarks.generator.target import Target, one_record
from benchmarks.report import Figures, InvalidSetting, Settings

SETTINGS: Settings = {
    "cells": "1x1 16x1 64x1 16x16",
    "acks": 1,
    "seconds": 3,
    "record_bytes": 100,
    "version": 0,
    "partitions": 1,
    "fsync": 1,
    "warm_up": 20_000,
}
PEERS = logs.PEERS


def run(settings: Settings, engine: str = logs.OURS) -> Figures:
    """Measure every cell on one broker."""
    number = {name: int(value) for name, value in settings.items() if name != "cells"}
    cells = {cell: cell_of(cell) for cell in str(settings["cells"]).split()}
    figures: dict[str, float] = {}
    with (
        logs.log(engine, fsync=logs.waits_for_disk(number)) as (broker, bootstrap),
        Target(bootstrap, partitions=number["partitions"], version=number["version"]) as target,
    ):
        records = one_record(number["record_bytes"])
        target.append(records)
        frames = [target.produce(records, partition=p, acks=number["acks"]) for p in range(number["partitions"])]
        for cell, (connections, depth) in cells.items():
            measured = load.closed(
                bootstrap,
                frames,
                check=target.produce_check,
                cpu_seconds=broker.cpu_seconds,
                connections=connections,
                depth=depth,
                warm_up=number["warm_up"],
                seconds=number["seconds"],
            )
            figures |= {
                f"{cell} requests/s": measured.requests_per_second,
                f"{cell} p50 us": measured.p50_us,
                f"{cell} p99 us": measured.p99_us,
                f"{cell} broker CPU us/request": measured.cpu_us_per_request,
            }
    return figures


def cell_of(text: str) -> tuple[int, int]:
    """Connections and depth of a cell like 16x4. Raises InvalidSetting for anything else."""
    connections, _, depth = text.partition("x")
    if not (connections.isdecimal() and depth.isdecimal() and int(connections) and int(depth)):
        raise InvalidSetting(f"a cell is CONNECTIONSxDEPTH, for example 16x4, not {text!r}")
    return int(connections), int(depth)
