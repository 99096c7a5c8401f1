"""kafkajs and @platformatic/kafka, unmodified, against the embedded broker; the scenarios are in node/*.mjs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.engines.embedded import embedded

FOLDER = Path(__file__).parent / "node"
CLIENTS = ["kafkajs", "platformatic"]
NODE_MAJOR_MIN = 20
INSTALL_SECONDS = 100
SCENARIO_SECONDS = 60

# The codecs each client brings along.
CODECS = [
    ("kafkajs", "none"),
    ("kafkajs", "gzip"),
    ("platformatic", "none"),
    ("platformatic", "gzip"),
    ("platformatic", "snappy"),
    ("platformatic", "lz4"),
]


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    """The clients, as the lock file names them."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing("node and npm are not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < NODE_MAJOR_MIN:
        missing(f"node {version} is older than {NODE_MAJOR_MIN}")
    if (FOLDER / "node_modules" / ".package-lock.json").exists():
        return
    done = subprocess.run(["npm", "ci"], cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if done.returncode:
        missing(f"npm ci failed in {FOLDER}:\n{done.stderr[-2000:]}")


def run(client: str, scenario: str, bootstrap: str, prefix: str, argument: str = "") -> None:
    """Run a scenario; what the client says is the failure."""
    command = ["node", "run.mjs", client, scenario, bootstrap, prefix, argument]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=SCENARIO_SECONDS)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.parametrize(("client", "codec"), CODECS)
def test_keys_headers_and_values_come_back_in_every_compression(
    bootstrap: str, prefix: str, client: str, codec: str
) -> None:
    run(client, "roundTrip", bootstrap, prefix, codec)


@pytest.mark.parametrize("client", CLIENTS)
def test_two_members_share_the_partitions_and_the_second_takes_over_when_the_first_leaves(
    bootstrap: str, prefix: str, client: str
) -> None:
    run(client, "twoMembers", bootstrap, prefix)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_group_resumes_from_its_commit_after_the_broker_was_reopened(
    tmp_path: Path, prefix: str, client: str
) -> None:
    with embedded(tmp_path) as bootstrap:
        run(client, "commit", bootstrap, prefix)
    with embedded(tmp_path) as bootstrap:
        run(client, "resume", bootstrap, prefix)


@pytest.mark.parametrize("client", CLIENTS)
def test_an_idempotent_producer_writes_each_record_once_in_order(bootstrap: str, prefix: str, client: str) -> None:
    run(client, "idempotent", bootstrap, prefix)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_topic_is_created_by_the_first_producer(bootstrap: str, prefix: str, client: str) -> None:
    run(client, "autoCreate", bootstrap, prefix)


@pytest.mark.parametrize("client", CLIENTS)
def test_offsets_are_found_by_time_and_at_both_ends(bootstrap: str, prefix: str, client: str) -> None:
    run(client, "offsetsByTime", bootstrap, prefix)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_admin_client_creates_describes_grows_and_deletes_topics(bootstrap: str, prefix: str, client: str) -> None:
    run(client, "adminTopics", bootstrap, prefix)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_admin_client_lists_describes_resets_and_deletes_groups(bootstrap: str, prefix: str, client: str) -> None:
    run(client, "adminGroups", bootstrap, prefix)
