"""How many MB/s does confluent-kafka produce to and consume from the broker, acks=all?

With fsync=1 an ack waits for the disk. Apache Kafka is compared as it is run, without, unless `--set peer_fsync=1`.
"""

from __future__ import annotations

import time

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks import stack
from benchmarks.report import Figures

SETTINGS = {"record_bytes": 1024, "records": 500_000, "acks": -1, "fsync": 1, "peer_fsync": 0}
PEERS = ("apache",)


def run(settings: dict[str, int], engine: str = "logqueue") -> Figures:
    """Produce the records to one partition, then read them back."""
    fsync = settings["fsync" if engine == "logqueue" else "peer_fsync"]
    with stack.log(engine, fsync=bool(fsync)) as (broker, bootstrap):
        megabytes = settings["record_bytes"] * settings["records"] / 1e6
        cpu = broker.cpu_seconds()
        produce_seconds = _produce(bootstrap, settings)
        produce_cpu = broker.cpu_seconds() - cpu
        consume_seconds = _consume(bootstrap, settings["records"])
        return {
            "produce MB/s": megabytes / produce_seconds,
            "produce records/s": settings["records"] / produce_seconds,
            "consume MB/s": megabytes / consume_seconds,
            "consume records/s": settings["records"] / consume_seconds,
            "broker CPU share of produce %": 100 * produce_cpu / produce_seconds,
            "RSS afterwards MiB": broker.rss_mib(),
        }


def _produce(bootstrap: str, settings: dict[str, int]) -> float:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": settings["acks"],
            "linger.ms": 5,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 2_000_000,
        }
    )
    payload = b"x" * settings["record_bytes"]
    producer.list_topics("bench", timeout=10)
    began = time.perf_counter()
    for _ in range(settings["records"]):
        while True:
            try:
                producer.produce("bench", payload, partition=0)
                break
            except BufferError:
                producer.poll(0.01)
    left = producer.flush(120)
    if left:
        raise RuntimeError(f"{left} records were not acknowledged")
    return time.perf_counter() - began


def _consume(bootstrap: str, records: int) -> float:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench",
            "fetch.queue.backoff.ms": 1,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.assign([TopicPartition("bench", 0, 0)])
    seen = 0
    began = time.perf_counter()
    while seen < records:
        messages = consumer.consume(10_000, timeout=10)
        if not messages:
            raise RuntimeError(f"only {seen} of {records} records came")
        seen += len(messages)
    took = time.perf_counter() - began
    consumer.close()
    return took
