"""`docker-compose.yml` and the Dockerfile say what the README promises, and Docker's own client accepts them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from logqueue_api.cli.dispatch import COMMANDS

from tests.conftest import missing


@pytest.fixture
def compose(repository: Path) -> dict[str, Any]:
    """The parsed compose file."""
    parsed: dict[str, Any] = yaml.safe_load((repository / "docker-compose.yml").read_text())
    return parsed


def kafka_nodes(compose: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in compose["services"].items() if "kafka" in service.get("image", "")}


def test_three_kafka_nodes_replicate_three_times_and_need_two_in_sync(compose: dict[str, Any]) -> None:
    nodes = kafka_nodes(compose)
    assert len(nodes) == 3
    assert {node["environment"]["KAFKA_NODE_ID"] for node in nodes.values()} == {1, 2, 3}
    for name, node in nodes.items():
        settings = node["environment"]
        assert settings["KAFKA_DEFAULT_REPLICATION_FACTOR"] == 3
        assert settings["KAFKA_MIN_INSYNC_REPLICAS"] == 2
        assert settings["KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR"] == 3
        assert settings["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{name}:9092"
        voters = settings["KAFKA_CONTROLLER_QUORUM_VOTERS"].split(",")
        assert f"{settings['KAFKA_NODE_ID']}@{name}:9093" in voters


def test_worker_and_api_come_from_one_image_and_find_all_nodes(compose: dict[str, Any]) -> None:
    services = compose["services"]
    worker, api = services["worker"], services["api"]
    assert worker["image"] == api["image"]
    assert worker["build"] == api["build"] == "."
    addresses = worker["environment"]["LOGQUEUE_BOOTSTRAP"].split(",")
    assert addresses == [f"{name}:9092" for name in kafka_nodes(compose)]
    assert api["environment"] == worker["environment"]


def test_every_long_running_service_has_a_health_check(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if not service.get("profiles"):
            assert "healthcheck" in service, name


def test_every_volume_that_is_used_is_declared(compose: dict[str, Any]) -> None:
    used = {mount.split(":")[0] for service in compose["services"].values() for mount in service.get("volumes", [])}
    assert used == set(compose["volumes"])


def test_the_commands_are_commands_of_ours(compose: dict[str, Any]) -> None:
    for name in ("worker", "api"):
        assert compose["services"][name]["command"][0] in COMMANDS


def test_the_image_runs_as_an_ordinary_user_and_builds_in_stages(repository: Path) -> None:
    lines = (repository / "Dockerfile").read_text().splitlines()
    assert sum(line.startswith("FROM ") for line in lines) == 2
    assert "USER logqueue" in lines
    copied = [line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    for source in copied:
        assert (repository / source).exists(), source


def compose_client() -> list[str]:
    """Docker's own client: the plugin, or the program that Debian has."""
    if shutil.which("docker") is not None:
        probe = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if probe.returncode == 0:
            return ["docker", "compose"]
    if shutil.which("docker-compose") is None:
        missing("neither `docker compose` nor `docker-compose` is installed")
    return ["docker-compose"]


def test_docker_accepts_the_file(repository: Path) -> None:
    command = [*compose_client(), "-f", str(repository / "docker-compose.yml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
