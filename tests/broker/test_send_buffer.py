"""`socket.send.buffer.bytes`: what is sent runs ahead of its reader by so much and no more."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from logqueue.testing import EmbeddedBroker


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
    """That of the broker's end of a new connection: it is in this process."""
    with socket.create_connection(("127.0.0.1", broker.port)) as connection:
        connection.sendall(b"\0\0\0\x0e\0\x12\0\0\0\0\0\1\0\4test")  # ApiVersions: its answer comes once accepted
        assert connection.recv(4)
        for fd in Path("/proc/self/fd").iterdir():
            if (size := _if_other_end(int(fd.name), connection)) is not None:
                return size
        raise AssertionError("the broker's end is no descriptor of this process")


def _if_other_end(fd: int, of: socket.socket) -> int | None:
    try:
        copy = socket.socket(fileno=os.dup(fd))
    except OSError:
        return None  # no socket, or closed meanwhile
    with copy:
        try:
            is_it = (copy.getpeername(), copy.getsockname()) == (of.getsockname(), of.getpeername())
        except OSError:
            return None  # listens, or has no name
        return copy.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) if is_it else None
