"""How long does a small producer wait for its acknowledgements beside one that saturates the broker with 1 MB batches?

Both are C programs with a connection each, to the same partition; `alone` is the small one without the other.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from benchmarks import logs
from benchmarks.generator import load
from benchmarks.generator.target import Target, batch_of, one_record
from benchmarks.report import Figures, Settings

SETTINGS: Settings = {"seconds": 3, "batch_bytes": 1_000_000, "depth": 4, "acks": 1, "fsync": 1, "warm_up": 2_000}
PEERS = logs.PEERS
MARGIN_SECONDS = 1
"""How much longer the large producer sends: it must be there when the small one ends."""


def run(settings: Settings, engine: str = logs.OURS) -> Figures:
    """The small producer alone, then beside the large one."""
    number = {name: int(value) for name, value in settings.items()}
    with logs.log(engine, fsync=logs.waits_for_disk(number)) as (broker, bootstrap), Target(bootstrap) as target:
        small = target.produce(one_record(100), acks=number["acks"])
        large = target.produce(batch_of(number["batch_bytes"]), acks=number["acks"])
        check = target.produce_check

        def send_small(warm_up: int) -> load.Load:
            return load.closed(
                bootstrap,
                [small],
                check=check,
                cpu_seconds=broker.cpu_seconds,
                warm_up=warm_up,
                seconds=number["seconds"],
            )

        alone = send_small(number["warm_up"])
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(
                load.closed,
                bootstrap,
                [large],
                check=check,
                cpu_seconds=broker.cpu_seconds,
                depth=number["depth"],
                seconds=number["seconds"] + MARGIN_SECONDS,
            )
            beside = send_small(0)  # what takes 0.1 s alone may take longer here than the large one sends
            if other.done():
                raise RuntimeError("the large producer ended first: the small one was not beside it all the time")
            bulk = other.result()
    return {
        "alone p50 us": alone.p50_us,
        "alone p99 us": alone.p99_us,
        "beside p50 us": beside.p50_us,
        "beside p99 us": beside.p99_us,
        "large MB/s": bulk.requests_per_second * number["batch_bytes"] / 1e6,
    }
