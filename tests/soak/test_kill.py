"""kill -9, pauses, cuts and restarts under real clients: a few seconds of what `make soak ARGS="--only kill"` does."""

from __future__ import annotations

import socket
from pathlib import Path
from random import Random

import pytest

from tests.soak.kill import KillRun
from tests.soak.proxy import Proxy

SEED = 5
SECONDS = 5.0
CLIENTS = (
    "confluent-producer",
    "aiokafka-producer",
    "confluent-transactions",
    "confluent-classic",
    "confluent-consumer",
)
AT_LEAST = {"acked": 100, "transactions": 1, "polled": 100}


@pytest.mark.slow
def test_real_clients_lose_nothing_and_see_nothing_twice_while_the_broker_is_killed(tmp_path: Path) -> None:
    troubles = ("broker kills", "broker double kills", "cuts", "broker kills")
    run = KillRun(tmp_path, seed=SEED, clients=CLIENTS, troubles=troubles, at_least=AT_LEAST)
    outcome = run.run(SECONDS)
    assert outcome.counts["broker starts"] > 1
    assert all(outcome.counts[name] >= least for name, least in AT_LEAST.items()), outcome


def test_the_proxy_passes_bytes_on_and_cuts_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = Proxy(server.getsockname())
        try:
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
                client.sendall(b"ping")
                broker, _ = server.accept()
                with broker:
                    assert broker.recv(10) == b"ping"
                    broker.sendall(b"pong")
                    assert client.recv(10) == b"pong"
                    assert proxy.cut(Random(1)) == 2
                    with pytest.raises(ConnectionResetError):
                        client.recv(10)
        finally:
            proxy.close()
