"""How many durable acknowledgements a second (acks=all, group commit) for 1, 16 and 64 producers, on slower disks too?

An acknowledgement waits for fsync. Each delay is a broker of its own whose fsync and fdatasync take so many
microseconds longer (a library before libc's, `generator/slow_disk.c`; a peer's too): 0 is this machine's disk, which
may be far faster than an SSD that has no capacitors. Producers are a C program; CxD is C connections with D unanswered
requests of one record each. The disk's own time is taken before, one fsync after the other.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import logs
from benchmarks.generator import load
from benchmarks.generator.slow_disk import fsync_times_us
from benchmarks.generator.target import Target, one_record
from benchmarks.report import Figures, Settings, percentile
from benchmarks.workloads.requests import cell_of

SETTINGS: Settings = {
    "cells": "1x1 16x1 64x1",
    "delays_us": "0 1000 5000",
    "seconds": 3,
    "record_bytes": 100,
    "warm_up": 200,
}
PEERS = ("apache",)
FSYNCS = 500


def run(settings: Settings, engine: str = logs.OURS) -> Figures:
    """Every cell on every disk."""
    cells = {cell: cell_of(cell) for cell in str(settings["cells"]).split()}
    disk = percentile(fsync_times_us(FSYNCS), 0.99)
    figures = {"fsync of the disk p99 us": disk}
    for delay in map(int, str(settings["delays_us"]).split()):
        figures |= _on_disk(engine, delay, disk + delay, cells, settings)
    return figures


def _on_disk(
    engine: str, delay_us: int, fsync_p99_us: float, cells: Mapping[str, tuple[int, int]], settings: Settings
) -> Figures:
    figures: dict[str, float] = {}
    with (
        logs.log(engine, fsync=True, fsync_us=delay_us) as (broker, bootstrap),
        Target(bootstrap) as target,
    ):
        records = one_record(int(settings["record_bytes"]))
        target.append(records)
        for cell, (connections, depth) in cells.items():
            measured = load.closed(
                bootstrap,
                [target.produce(records, acks=logs.ACKS_ALL)],
                check=target.produce_check,
                cpu_seconds=broker.cpu_seconds,
                connections=connections,
                depth=depth,
                warm_up=int(settings["warm_up"]),
                seconds=int(settings["seconds"]),
            )
            name = f"+{delay_us} us {cell}"
            figures |= {
                f"{name} acks/s": measured.requests_per_second,
                f"{name} p50 us": measured.p50_us,
                f"{name} p99 us": measured.p99_us,
                f"{name} p99 / fsync p99": measured.p99_us / fsync_p99_us,
                f"{name} broker CPU us/ack": measured.cpu_us_per_request,
            }
    return figures
