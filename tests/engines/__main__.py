"""Fetches what the tests would otherwise fetch when they need it: Apache Kafka's jars and the Node clients."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.engines import apache, node_clients

if __name__ == "__main__":
    with ThreadPoolExecutor() as pool:
        for fetched in [pool.submit(apache.class_path), pool.submit(node_clients.folder)]:
            print(fetched.result())
