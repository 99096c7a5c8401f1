"""How long after a record is sent does a consumer have it whose fetch was waiting for it?

A C program: a fetch waits on one connection, then a produce of one record is sent on another. With acks=-1 and fsync=1
the record shows when it is on the disk. tansu looks for new records twice in a wait of any length: it is no peer here.
"""

from __future__ import annotations

from benchmarks import logs
from benchmarks.generator import load
from benchmarks.generator.target import Target, one_record
from benchmarks.report import Figures, Settings

SETTINGS: Settings = {"records": 5_000, "record_bytes": 100, "acks": 1, "park_us": 200, "fsync": 1, "warm_up": 1_000}
PEERS = ("apache",)
MAX_WAIT_MS = 10_000


def run(settings: Settings, engine: str = logs.OURS) -> Figures:
    """One record at a time."""
    number = {name: int(value) for name, value in settings.items()}
    with (
        logs.log(engine, fsync=logs.waits_for_disk(number)) as (broker, bootstrap),
        Target(bootstrap) as target,
    ):
        records = one_record(number["record_bytes"])
        offset = target.append(records) + 1
        measured = load.parked(
            bootstrap,
            fetch=target.fetch(offset, max_wait_ms=MAX_WAIT_MS),
            produce=target.produce(records, acks=number["acks"]),
            check=target.fetch_check,
            produce_check=target.produce_check,
            offset_position=target.fetch_offset_position,
            offset=offset,
            cpu_seconds=broker.cpu_seconds,
            park_us=number["park_us"],
            warm_up=number["warm_up"],
            requests=number["records"],
        )
        return {
            "produce to fetch p50 us": measured.p50_us,
            "produce to fetch p99 us": measured.p99_us,
            "produce to fetch max us": measured.max_us,
            "broker CPU us per pair": measured.cpu_us_per_request,
        }
