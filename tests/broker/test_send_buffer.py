"""`socket.send.buffer.bytes`: what is sent runs ahead of its reader by so much and no more."""

from __future__ import annotations

import socket

import pytest

from logqueue.testing import EmbeddedBroker
from tests.broker.ends import other_end


@pytest.mark.parametrize("size", [100_000, 262_144])
def test_connections_have_the_send_buffer_that_is_set(size: int) -> None:
    with EmbeddedBroker(socket_send_buffer_bytes=size) as broker:
        assert _send_buffer(broker) == 2 * size  # Linux doubles it, for its own use


def test_without_one_it_is_the_system_s() -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain, EmbeddedBroker(socket_send_buffer_bytes=-1) as broker:
        with socket.create_connection(plain.getsockname()), plain.accept()[0] as accepted:
            usual = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert _send_buffer(broker) == usual


def _send_buffer(broker: EmbeddedBroker) -> int:
    with socket.create_connection(("127.0.0.1", broker.port)) as connection:
        connection.sendall(b"\0\0\0\x0e\0\x12\0\0\0\0\0\1\0\4test")  # ApiVersions: its answer comes once accepted
        assert connection.recv(4)
        with other_end(connection) as end:
            return end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
