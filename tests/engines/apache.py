"""Apache Kafka as an engine under test: a container where Docker runs, else the jars of Maven Central in KRaft mode."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.engines.guard import ended_with_us
from tests.engines.shared import locked

POM = Path(__file__).with_name("pom.xml")
CACHE = Path(__file__).resolve().parents[2] / ".cache"
IMAGE = "apache/kafka:4.2.1"
START_TIMEOUT_SECONDS = 90
STOP_TIMEOUT_SECONDS = 20
MAVEN_TIMEOUT_SECONDS = 600
SERVER_PORTS = range(10_000, 32_768)  # Linux gives outgoing connections those above.
CLUSTER_ID = "5L6g3nShT-eMCtK--X86sw"
JAVA_OPTIONS = ("-Xms128m", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class EngineMissing(Exception):
    """This machine lacks what the engine needs; the text says what."""


def class_path() -> str:
    """Jars of Apache Kafka and its tools as a Java class path, fetched through Maven once per version of the pom."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    if java is None or maven is None:
        raise EngineMissing("Apache Kafka needs Docker, or Java 17 and Maven (neither `java` nor `mvn` may be missing)")
    key = hashlib.sha256(POM.read_bytes()).hexdigest()[:16]
    jars = CACHE / f"apache-kafka-{key}"
    with locked(jars.with_suffix(".lock")):
        if not (jars / "complete").exists():
            command = [maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=MAVEN_TIMEOUT_SECONDS, check=False)
            if done.returncode != 0:
                raise EngineMissing(f"Maven could not fetch Apache Kafka: {(done.stdout + done.stderr)[-500:]}")
            (jars / "complete").touch()
    return f"{jars}/*"


def docker_runs() -> bool:
    """Whether a Docker engine (not merely its client) answers."""
    if shutil.which("docker") is None:
        return False
    probe = subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False)
    return probe.returncode == 0


@contextmanager
def apache_kafka(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run one Apache Kafka node, with broker settings (then from its jars), and give its bootstrap address."""
    if settings is None and docker_runs():
        with _container() as bootstrap:
            yield bootstrap
    else:
        with node_from_jars(folder, settings or {}) as (bootstrap, _):
            yield bootstrap


@contextmanager
def _container() -> Iterator[str]:
    from testcontainers.kafka import KafkaContainer

    with KafkaContainer(IMAGE).with_kraft() as kafka:
        yield kafka.get_bootstrap_server()


@contextmanager
def node_from_jars(
    folder: Path,
    settings: Mapping[str, str],
    *,
    java_options: Sequence[str] = JAVA_OPTIONS,
    ports: tuple[int, int] | None = None,
) -> Iterator[tuple[str, int]]:
    """Run one node from its jars: bootstrap address and process id. The default options start it fast.

    `ports` are those of the plain listener and of the controller, for settings that have to name them.
    """
    java = ["java", *java_options, "-cp", class_path()]
    port, controller_port = ports or free_ports(2)
    properties = folder / "server.properties"
    text = _server_properties(folder / "data", port=port, controller_port=controller_port)
    properties.write_text(text + "".join(f"{name}={value}\n" for name, value in settings.items()))
    log = folder / "kafka.log"
    with log.open("wb") as output:
        format_storage = ["kafka.tools.StorageTool", "format", "--standalone", "--ignore-formatted", "-t", CLUSTER_ID]
        format_storage += ["-c", str(properties)]
        subprocess.run([*java, *format_storage], stdout=output, stderr=output, check=True, cwd=folder)
        node = subprocess.Popen(
            [*java, "kafka.Kafka", str(properties)], stdout=output, stderr=output, cwd=folder, start_new_session=True
        )
    try:
        with ended_with_us(node.pid):
            _wait_until_started(node, log, port)
            yield f"127.0.0.1:{port}", node.pid
    finally:
        _end(node)


def _server_properties(data: Path, *, port: int, controller_port: int) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": data,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 10,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.num.partitions": 5,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _wait_until_started(node: subprocess.Popen[bytes], log: Path, port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not _accepts(port):
        if node.poll() is not None:
            raise RuntimeError(f"Apache Kafka ended while starting:\n{log.read_text(errors='replace')[-2000:]}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"Apache Kafka did not listen on port {port} within {START_TIMEOUT_SECONDS} s")
        time.sleep(0.1)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _end(node: subprocess.Popen[bytes]) -> None:
    node.send_signal(signal.SIGTERM)
    try:
        node.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that no outgoing connection is given before a server is up."""
    found: list[int] = []
    with ExitStack() as held:
        for port in random.SystemRandom().sample(SERVER_PORTS, 50 * count):
            with suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
            if len(found) == count:
                return found
    raise EngineMissing(f"no {count} ports of {SERVER_PORTS} are free")


def required() -> bool:
    """In CI everything that CI can install must be there: a skip would hide a hole."""
    return os.environ.get("CI", "") not in ("", "0", "false")
