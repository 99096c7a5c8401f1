"""librdkafka's mock cluster as a process of its own: one broker in C, in memory, without checksums or a disk.

`python -m benchmarks.peers.librdkafka_mock` prints `ready on HOST:PORT` and serves until it is terminated.
"""

from __future__ import annotations

import signal

from confluent_kafka import Producer

METADATA_TIMEOUT_SECONDS = 10


def main() -> None:
    """Serve until a signal ends the process."""
    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "made.by.the.mock"})
    (broker,) = producer.list_topics(timeout=METADATA_TIMEOUT_SECONDS).brokers.values()
    print(f"ready on {broker.host}:{broker.port}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
