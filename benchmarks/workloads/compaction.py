"""By how much does compacting a 2 GiB topic delay the acknowledgements of a producer (acks=all, one record each)?"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

from confluent_kafka import Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from benchmarks import stack
from benchmarks.clients import QUIET
from benchmarks.report import Figures, percentile
from logqueue.protocol.frames import RequestHeader, write_request
from logqueue.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from logqueue.records import Record, build_batch

SETTINGS = {
    "topic_mib": 2048,
    "record_bytes": 1024,
    "keys": 100_000,
    "segment_mib": 256,
    "requests_per_second": 500,
    "idle_seconds": 15,
    "fsync": 1,
}
TIMEOUT_SECONDS = 600
LARGE, ACKED = "large", "acked"
NEVER = "1.0"  # a dirty ratio that is never exceeded


def run(settings: dict[str, int]) -> Figures:
    """Fill the topic, measure, let the cleaner begin, measure until it is through."""
    with stack.broker(
        "--override", "log.cleaner.backoff.ms=200", "--override", f"logqueue.fsync.acks.all={bool(settings['fsync'])}"
    ) as (broker, bootstrap):
        admin = AdminClient({"bootstrap.servers": bootstrap})
        create(admin, settings, cleanup_policy="compact", min_cleanable_dirty_ratio=NEVER)
        fill(bootstrap, settings)
        checkpoint = broker.data_dir / "cleaner-offset-checkpoint"
        until = time.monotonic() + settings["idle_seconds"]
        idle = latencies(bootstrap, settings, lambda: time.monotonic() < until)
        alter(admin, "min.cleanable.dirty.ratio", "0.01")
        began = time.monotonic()
        busy = latencies(
            bootstrap, settings, lambda: not checkpoint.exists() and time.monotonic() - began < TIMEOUT_SECONDS
        )
        took = time.monotonic() - began
        if not checkpoint.exists():
            raise RuntimeError(f"not compacted within {TIMEOUT_SECONDS} s")
        return {
            "compaction s": took,
            "compaction MB/s": settings["topic_mib"] * 1.048576 / took,
            **shares("idle", idle),
            **shares("compacting", busy),
            "p99 compacting / idle": percentile(busy, 0.99) / percentile(idle, 0.99),
            "worst idle us": idle[-1],
            "worst compacting us": busy[-1],
            "worst lifted by ms": (busy[-1] - idle[-1]) / 1000,
        }


def create(admin: AdminClient, settings: dict[str, int], **configs: str) -> None:
    """The large topic, and the one whose acknowledgements are timed."""
    config = {
        "segment.bytes": str(settings["segment_mib"] << 20),
        "file.delete.delay.ms": "1000",
        **{name.replace("_", "."): value for name, value in configs.items()},
    }
    for created in admin.create_topics([NewTopic(LARGE, 1, config=config), NewTopic(ACKED, 1)]).values():
        created.result(10)


def shares(name: str, waits_us: list[float]) -> Figures:
    """What is told of waiting times."""
    return {f"{name} p{share * 100:g} us": percentile(waits_us, share) for share in (0.5, 0.99, 0.999)}


def alter(admin: AdminClient, name: str, value: str) -> None:
    """Set one configuration of the large topic."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, LARGE, incremental_configs=[entry])
    for altered in admin.incremental_alter_configs([resource]).values():
        altered.result(10)


def fill(bootstrap: str, settings: dict[str, int]) -> None:
    """Produce `topic_mib` to the large topic, with keys that come again."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "log_level": QUIET,
            "acks": -1,
            "linger.ms": 5,
            "batch.size": 256_000,
            "queue.buffering.max.messages": 200_000,
        }
    )
    count = (settings["topic_mib"] << 20) // settings["record_bytes"]
    value = bytes(range(256)) * (settings["record_bytes"] // 256)
    for number in range(count):
        key = b"%012d" % (number * 7919 % settings["keys"])
        while True:
            try:
                producer.produce(LARGE, value, key=key)
                break
            except BufferError:
                producer.poll(0.05)
    if producer.flush(120):
        raise RuntimeError("the topic could not be filled")


def latencies(bootstrap: str, settings: dict[str, int], goes_on: Callable[[], bool]) -> list[float]:
    """Microseconds from sending one record to its acknowledgement, sorted; paced, and one at a time."""
    batch = build_batch([Record(timestamp_ms=int(time.time() * 1000), value=b"x" * 100)])
    message = ProduceRequest(
        acks=-1,
        timeout_ms=10_000,
        topic_data=[
            TopicProduceData(name=ACKED, partition_data=[PartitionProduceData(index=0, records=memoryview(batch))])
        ],
    )
    request = b"".join(bytes(part) for part in write_request(RequestHeader(0, 9, 1, "bench"), message))  # type: ignore[arg-type]
    host, _, port = bootstrap.rpartition(":")
    pause = 1 / settings["requests_per_second"]
    found: list[float] = []
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due = time.perf_counter()
        while goes_on():
            due += pause
            time.sleep(max(due - time.perf_counter(), 0))
            began = time.perf_counter()
            connection.sendall(request)
            (size,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
            connection.recv(size, socket.MSG_WAITALL)
            found.append((time.perf_counter() - began) * 1e6)
            due = max(due, began)
    return sorted(found)
