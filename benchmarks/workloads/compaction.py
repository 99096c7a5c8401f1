"""By how much does compacting a 2 GiB topic delay the acknowledgements of a producer (acks=all, one record each)?"""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from benchmarks import logs, stack
from benchmarks.clients import Sender
from benchmarks.generator.target import Target, one_record
from benchmarks.report import Figures, percentile

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
LARGE = "large"
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
    """The large topic."""
    config = {
        "segment.bytes": str(settings["segment_mib"] << 20),
        "file.delete.delay.ms": "1000",
        **{name.replace("_", "."): value for name, value in configs.items()},
    }
    for created in admin.create_topics([NewTopic(LARGE, 1, config=config)]).values():
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
    sender = Sender(bootstrap, {"batch.size": 256_000, "queue.buffering.max.messages": 200_000})
    size = settings["record_bytes"]
    value = (bytes(range(256)) * -(-size // 256))[:size]
    for number in range((settings["topic_mib"] << 20) // size):
        sender.put(LARGE, value, b"%012d" % (number * 7919 % settings["keys"]))
    sender.finish()


def latencies(bootstrap: str, settings: dict[str, int], goes_on: Callable[[], bool]) -> list[float]:
    """Microseconds from sending one record to its acknowledgement, sorted; paced, and one at a time."""
    pause = 1 / settings["requests_per_second"]
    found: list[float] = []
    with Target(bootstrap) as target:
        frame, check = target.produce(one_record(100), acks=logs.ACKS_ALL), target.produce_check
        due = time.perf_counter()
        while goes_on():
            due += pause
            time.sleep(max(due - time.perf_counter(), 0))
            began = time.perf_counter()
            found.append(target.acknowledged(frame, check=check) * 1e6)
            due = max(due, began)
    return sorted(found)
