"""How long does one record wait for its acknowledgement, when one producer sends one at a time?

A raw connection sends prepared requests, so client code is not in the figures. With fsync=1 both logs make the record
durable before the ack; with fsync=0 neither does. A run takes 6 s, with a peer 20 s.
"""

from __future__ import annotations

import time

from benchmarks import logs, stack
from benchmarks.report import Figures, percentile
from tests.broker.wire import Wire, batch, create_topic, produce_request

SETTINGS = {"record_bytes": 100, "records": 20_000, "fsync": 1, "acks": -1}
PEERS = ("apache", "tansu")
WARM_UP = 0.2
"""Share of records sent before the measured ones: the JVM compiles what runs often."""
PRODUCE_VERSION = 9


def run(settings: dict[str, int], engine: str = logs.OURS) -> Figures:
    """Send the records one by one to one partition."""
    count = settings["records"]
    with logs.log(engine, fsync=bool(settings["fsync"])) as (broker, bootstrap), Wire(bootstrap) as wire:
        create_topic(wire, "bench")
        request = produce_request("bench", batch(b"x" * settings["record_bytes"]), acks=settings["acks"])
        frame = wire.encode(PRODUCE_VERSION, request)
        _wait_for_leader(wire, frame)
        _send(wire, frame, int(count * WARM_UP))
        cpu, began = broker.cpu_seconds(), time.perf_counter()
        waits = sorted(_send(wire, frame, count))
        took, used = time.perf_counter() - began, broker.cpu_seconds() - cpu
        return {
            "ack p50 us": percentile(waits, 0.5) * 1e6,
            "ack p99 us": percentile(waits, 0.99) * 1e6,
            "acks/s": count / took,
            "broker CPU us per request": used / count * 1e6,
        }


def _send(wire: Wire, frame: bytes, count: int) -> list[float]:
    waits = []
    for _ in range(count):
        began = time.perf_counter()
        wire.socket.sendall(frame)
        size = int.from_bytes(wire.read_exactly(4), "big")
        wire.read_exactly(size)
        waits.append(time.perf_counter() - began)
    return waits


def _wait_for_leader(wire: Wire, frame: bytes) -> None:
    """A topic that was just created may have no leader for a moment."""
    deadline = time.monotonic() + stack.START_TIMEOUT_SECONDS
    wire.socket.sendall(frame)
    while wire.receive()[1].responses[0].partition_responses[0].error_code:
        if time.monotonic() > deadline:
            raise RuntimeError("the topic has no leader")
        time.sleep(0.05)
        frame = wire.encode(PRODUCE_VERSION, produce_request("bench", batch(b"x")))
        wire.socket.sendall(frame)
