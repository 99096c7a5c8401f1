"""Apache Kafka's own command-line tools work on the broker: its Java Admin is the strictest reader of answers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, create

SECONDS = 60
Tool = Callable[..., str]


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(fsync=False) as running:
        yield running


@pytest.fixture
def tool(broker: EmbeddedBroker, kafka_class_path: str) -> Tool:
    java = shutil.which("java")
    assert java is not None

    def run(name: str, *words: str) -> str:
        command = [java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", name]
        done = subprocess.run(
            [*command, "--bootstrap-server", broker.bootstrap, *words],
            env={**os.environ, "CLASSPATH": kafka_class_path},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_topics_and_settings_by_kafkas_tools(broker: EmbeddedBroker, tool: Tool) -> None:
    topic, config = "org.apache.kafka.tools.TopicCommand", "kafka.admin.ConfigCommand"
    with Wire(broker.bootstrap) as wire:
        create(wire, "t", partitions=3)
    changes = "cleanup.policy=[compact,delete],segment.bytes=2000000"
    tool(config, "--alter", "--entity-type", "topics", "--entity-name", "t", "--add-config", changes)
    described = tool(topic, "--describe", "--topic", "t")
    assert described.count("Leader: 1") == 3
    assert "Configs: cleanup.policy=compact,delete,segment.bytes=2000000" in described
    everything = tool(config, "--describe", "--entity-type", "brokers", "--entity-name", "1", "--all")
    assert everything.count("synonyms=") > 300
