"""Apache Kafka's own tools over SASL_SSL with ACLs on: an administrator's morning, from the first user to the last."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from logqueue.config.security import STANDARD_AUTHORIZER
from logqueue.testing import EmbeddedBroker
from tests.security.authority import Authority
from tests.security.people import Person, write_users

BOSS = Person("boss", "the boss's secret")
CLERK = Person("clerk", "the clerk's secret")
SECONDS = 60

TOPICS = "org.apache.kafka.tools.TopicCommand"
ACLS = "org.apache.kafka.tools.AclCommand"
CONFIGS = "kafka.admin.ConfigCommand"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"


@pytest.fixture(scope="module")
def broker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """Lets nobody in without a password, and nobody do anything but the boss."""
    data_dir = tmp_path_factory.mktemp("tools")
    write_users(data_dir, BOSS)
    with EmbeddedBroker(
        data_dir,
        fsync=False,
        listeners=("SASL_SSL://127.0.0.1:0",),
        ssl_keystore_location=str(authority.issue("localhost", hosts=("127.0.0.1",))),
        authorizer_class_name=STANDARD_AUTHORIZER,
        super_users=f"User:{BOSS.name}",
        connection_failed_authentication_delay_ms=10,
        group_initial_rebalance_delay_ms=0,
    ) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Desk:
    """Runs tools as one person."""

    broker: EmbeddedBroker
    class_path: str
    config: Path

    def run(self, tool: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        java = shutil.which("java")
        assert java is not None
        command = [java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", tool]
        return subprocess.run(
            [*command, "--bootstrap-server", self.broker.bootstrap, "--command-config", str(self.config), *words],
            env=os.environ | {"CLASSPATH": self.class_path},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def done(self, tool: str, *words: str, stdin: str = "") -> str:
        """What a tool printed that has to succeed."""
        ended = self.run(tool, *words, stdin=stdin)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


@pytest.fixture
def desks(broker: EmbeddedBroker, authority: Authority, kafka_class_path: str, tmp_path: Path) -> tuple[Desk, Desk]:
    """The boss's and the clerk's."""
    return (
        Desk(broker, kafka_class_path, _config(tmp_path, authority, BOSS)),
        Desk(broker, kafka_class_path, _config(tmp_path, authority, CLERK)),
    )


def _config(folder: Path, authority: Authority, person: Person) -> Path:
    login = "org.apache.kafka.common.security.scram.ScramLoginModule"
    path = folder / f"{person.name}.properties"
    path.write_text(
        "security.protocol=SASL_SSL\n"
        "sasl.mechanism=SCRAM-SHA-512\n"
        f'sasl.jaas.config={login} required username="{person.name}" password="{person.password}";\n'
        "ssl.truststore.type=PEM\n"
        f"ssl.truststore.location={authority.path}\n"
    )
    return path


@pytest.mark.slow
@pytest.mark.timeout(300)  # a dozen Java programs, each 1.2 s of a processor that others may want as well
def test_users_topics_rights_records_and_groups_by_kafkas_tools(desks: tuple[Desk, Desk]) -> None:
    boss, clerk = desks
    hired = ("--alter", "--entity-type", "users", "--entity-name", CLERK.name)
    boss.done(CONFIGS, *hired, "--add-config", f"SCRAM-SHA-512=[iterations=4096,password={CLERK.password}]")
    boss.done(TOPICS, "--create", "--topic", "orders", "--partitions", "3")

    assert "orders" not in clerk.done(TOPICS, "--list")
    refused = clerk.run(PRODUCER, "--topic", "orders", "--sync", stdin="too early\n")
    assert "TopicAuthorizationException" in refused.stdout + refused.stderr

    who = ("--allow-principal", f"User:{CLERK.name}", "--topic", "orders")
    boss.done(ACLS, "--add", *who, "--producer", "--consumer", "--group", "desk")
    listed = boss.done(ACLS, "--list", "--principal", f"User:{CLERK.name}")
    assert [word in listed for word in ("name=orders", "operation=WRITE", "name=desk", "operation=READ")] == [True] * 4
    assert clerk.done(TOPICS, "--list").split() == ["orders"]

    clerk.done(PRODUCER, "--topic", "orders", stdin="one\ntwo\nthree\n")
    reading = ("--topic", "orders", "--group", "desk", "--from-beginning", "--max-messages", "3")
    assert sorted(clerk.done(CONSUMER, *reading).split()) == ["one", "three", "two"]
    rows = [line.split() for line in clerk.done(GROUPS, "--describe", "--group", "desk").splitlines()]
    lags = [row[5] for row in rows if row[:2] == ["desk", "orders"]]
    assert lags
    assert set(lags) == {"0"}

    boss.done(ACLS, "--remove", "--force", *who, "--consumer", "--group", "desk")
    refused = clerk.run(GROUPS, "--describe", "--group", "desk")
    assert "GroupAuthorizationException" in refused.stdout + refused.stderr

    boss.done(CONFIGS, *hired, "--delete-config", "SCRAM-SHA-512")
    gone = clerk.run(TOPICS, "--list")
    assert gone.returncode != 0
    assert "Authentication failed" in gone.stdout + gone.stderr
