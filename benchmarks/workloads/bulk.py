"""How many MB/s do large batches bring in and fetches of 1 MiB take out, and what does each cost the broker?

A C program sends prepared requests, `depth` of them unanswered on one connection. acks=1 does not wait for the disk.
"""

from __future__ import annotations

from benchmarks import logs
from benchmarks.generator import load
from benchmarks.generator.target import Target, batch_of
from benchmarks.report import Figures, Settings

SETTINGS: Settings = {
    "batches": "16384 1000000",
    "megabytes": 2_000,
    "depth": 4,
    "acks": 1,
    "fetches": 5_000,
    "fsync": 1,
}
PEERS = logs.PEERS
WARM_UP = 0.25
"""Share of the requests sent before the measured ones: the first touch of page cache is slow."""
FETCH_BYTES = 1 << 20
FETCHED_BATCH = 16_384
MAX_WAIT_MS = 100
"""Nobody waits, for the records are there; but tansu reads nothing when it may not wait at all."""


def run(settings: Settings, engine: str = logs.OURS) -> Figures:
    """Produce every size of batch to a new log each, and fetch the beginning of the last one again and again."""
    number = {name: int(value) for name, value in settings.items() if name != "batches"}
    figures: dict[str, float] = {}
    for size in map(int, str(settings["batches"]).split()):
        figures.update(_produce(engine, size, number))
    return {**figures, **_fetch(engine, number)}


def _produce(engine: str, size: int, number: dict[str, int]) -> Figures:
    with logs.log(engine, fsync=logs.waits_for_disk(number)) as (broker, bootstrap), Target(bootstrap) as target:
        records = batch_of(size)
        target.append(records)
        count = number["megabytes"] * 1_000_000 // len(records)
        measured = load.closed(
            bootstrap,
            [target.produce(records, acks=number["acks"])],
            check=target.produce_check,
            cpu_seconds=broker.cpu_seconds,
            depth=number["depth"],
            warm_up=int(count * WARM_UP),
            requests=count,
        )
        return {
            f"{size} B batches MB/s": measured.requests_per_second * len(records) / 1e6,
            f"{size} B batches CPU us/batch": measured.cpu_us_per_request,
        }


def _fetch(engine: str, number: dict[str, int]) -> Figures:
    with logs.log(engine, fsync=False) as (broker, bootstrap), Target(bootstrap) as target:
        records = batch_of(FETCHED_BATCH)
        for _ in range(2 * FETCH_BYTES // len(records)):
            target.append(records)
        frame = target.fetch(0, max_bytes=FETCH_BYTES, max_wait_ms=MAX_WAIT_MS)
        fetched = len(target.send(frame).responses[0].partitions[0].records)
        measured = load.closed(
            bootstrap,
            [frame],
            check=target.fetch_check,
            cpu_seconds=broker.cpu_seconds,
            warm_up=int(number["fetches"] * WARM_UP),
            requests=number["fetches"],
        )
        return {
            "fetch MB/s": measured.requests_per_second * fetched / 1e6,
            "fetch p50 us": measured.p50_us,
            "fetch CPU us per MiB": measured.cpu_us_per_request * FETCH_BYTES / fetched,
        }
