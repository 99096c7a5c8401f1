"""Which version of a peer, and of the server that it keeps its jobs in, was measured."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import confluent_kafka

from benchmarks.peers import environment
from benchmarks.peers.promises import JOB_PEERS
from benchmarks.peers.servers import ON_POSTGRES, ON_RABBITMQ
from tests.engines.apache import POM

RABBITMQ = Path("/usr/lib/rabbitmq/lib")
POSTGRES = Path("/usr/lib/postgresql")


def of_peer(peer: str) -> str:
    """Names and numbers, as they are found on this machine; only after the peer has run."""
    if peer == "apache":
        found = re.search(r"<artifactId>kafka_[^<]*</artifactId>\s*<version>([^<]+)", POM.read_text())
        return f"Apache Kafka {found[1] if found else '(see pom.xml)'}"
    if peer == "mock":
        return f"librdkafka {confluent_kafka.libversion()[0]}"
    if peer in JOB_PEERS:
        return ", ".join([environment.version(peer), *_servers(peer)])
    if peer in environment.REQUIREMENTS:
        return environment.version(peer)
    return ""


def _servers(peer: str) -> list[str]:
    if peer in ON_POSTGRES:
        return [f"PostgreSQL {max(path.name for path in POSTGRES.iterdir())}"]
    said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    numbers = re.search(r"v=(\S+)", said)
    servers = [f"Redis {numbers[1] if numbers else said.strip()}"]
    if peer in ON_RABBITMQ:
        servers += sorted(path.name.replace("rabbitmq_server-", "RabbitMQ ") for path in RABBITMQ.glob("*server-*"))
    return servers
