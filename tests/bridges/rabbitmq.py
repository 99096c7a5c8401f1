"""A RabbitMQ node of the tests' own: folders, ports and epmd its own, run by an unprivileged user."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.engines.apache import free_ports
from tests.engines.guard import ended_with_us

START_SECONDS = 90
STOP_SECONDS = 30
PACKAGED = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class RabbitMissing(Exception):
    """This machine has no RabbitMQ; the text says what is missing."""


@contextmanager
def rabbitmq(*, schedulers: int = 1) -> Iterator[str]:
    """Run a node that uses so many processors; its AMQP URL."""
    epmd = shutil.which("epmd")
    if not PACKAGED.exists() or epmd is None:
        raise RabbitMissing("RabbitMQ is not installed (Debian package rabbitmq-server)")
    user = _unprivileged()
    # Not where TMPDIR may point: the other user has to get there.
    with tempfile.TemporaryDirectory(prefix="logqueue-rabbitmq-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        if user is not None:
            shutil.chown(folder, user)
        port, dist_port, epmd_port = free_ports(3)
        place = Path(folder)
        environment = {
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/bin",
            "HOME": folder,
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"logqueue{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(dist_port),
            "RABBITMQ_BASE": folder,
            "RABBITMQ_MNESIA_BASE": str(place / "mnesia"),
            "RABBITMQ_LOG_BASE": str(place / "log"),
            "RABBITMQ_CONFIG_FILE": str(place / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(place / "none.env"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(place / "plugins"),
            "RABBITMQ_PID_FILE": str(place / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S {schedulers}:{schedulers}",
        }

        def start(*command: str) -> subprocess.Popen[bytes]:
            output = (place / f"{Path(command[0]).name}.out").open("wb")
            with output:
                return subprocess.Popen(
                    command,
                    user=user,
                    cwd=folder,
                    env=environment,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )

        # As our child: a node would start one that outlives it.
        mapper = start(epmd, "-port", str(epmd_port), "-address", "127.0.0.1")
        node = start(str(PACKAGED))
        try:
            with ended_with_us(-node.pid, -mapper.pid):
                _wait_for(port, node, place)
                yield f"amqp://guest:guest@127.0.0.1:{port}/"
        finally:
            for process in (node, mapper):
                _stop(process)


def _wait_for(port: int, node: subprocess.Popen[bytes], place: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if node.poll() is not None:
            break
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                if probe.recv(1):
                    return
        time.sleep(0.1)
    raise AssertionError(f"RabbitMQ did not start:\n{(place / 'rabbitmq-server.out').read_text()[-3000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _unprivileged() -> str | None:
    if os.getuid() != 0:
        return None
    try:
        pwd.getpwnam("rabbitmq")
    except KeyError:
        raise RabbitMissing("there is no user rabbitmq to run a node as") from None
    return "rabbitmq"
