"""kafkajs and @platformatic/kafka, unmodified, against the embedded broker; the scenarios are in node/*.mjs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.engines.embedded import embedded

FOLDER = Path(__file__).parent / "node"
CLIENTS = ["kafkajs", "platformatic"]
SCENARIO_SECONDS = 60

pytestmark = pytest.mark.usefixtures("node_clients")

# The codecs each client brings along.
CODECS = [
    ("kafkajs", "none"),
    ("kafkajs", "gzip"),
    ("platformatic", "none"),
    ("platformatic", "gzip"),
    ("platformatic", "snappy"),
    ("platformatic", "lz4"),
]


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
