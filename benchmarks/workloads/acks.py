"""How long does one record wait for its acknowledgement, when one producer sends one at a time?

A raw connection sends prepared requests, so no client library is in the figures. With fsync=1 and acks=-1 the record is
durable before the ack, in Apache Kafka too; otherwise nobody waits for the disk. A run takes 6 s, with a peer 20 s.
"""

from __future__ import annotations

import time

from benchmarks import logs
from benchmarks.generator.target import Target, one_record
from benchmarks.report import Figures, Settings, percentile

SETTINGS: Settings = {"record_bytes": 100, "records": 20_000, "fsync": 1, "acks": -1}
PEERS = ("apache", "tansu")
WARM_UP = 0.2
"""Share of records sent before the measured ones: the JVM compiles what runs often."""
PRODUCE_VERSION = 9


def run(settings: Settings, engine: str = logs.OURS) -> Figures:
    """Send the records one by one to one partition."""
    number = {name: int(value) for name, value in settings.items()}
    count = number["records"]
    with (
        logs.log(engine, fsync=logs.waits_for_disk(number)) as (broker, bootstrap),
        Target(bootstrap, version=PRODUCE_VERSION) as target,
    ):
        frame, check = target.produce(one_record(number["record_bytes"]), acks=number["acks"]), target.produce_check
        for _ in range(int(count * WARM_UP)):
            target.acknowledged(frame, check=check)
        cpu, began = broker.cpu_seconds(), time.perf_counter()
        waits = sorted(target.acknowledged(frame, check=check) for _ in range(count))
        took, used = time.perf_counter() - began, broker.cpu_seconds() - cpu
        return {
            "ack p50 us": percentile(waits, 0.5) * 1e6,
            "ack p99 us": percentile(waits, 0.99) * 1e6,
            "acks/s": count / took,
            "broker CPU us per request": used / count * 1e6,
        }
