"""`logqueue users` and `logqueue acls`: the first user before the broker starts, the others through its API."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from logqueue_api.cli.exits import ExitCode

from logqueue.config.security import STANDARD_AUTHORIZER
from logqueue.storage.security_file import FILE_NAME
from logqueue.testing import EmbeddedBroker
from tests.security.authority import Authority

COMMAND = [sys.executable, "-m", "logqueue_api.cli.main"]
SECONDS = 60
BOSS_PASSWORD = "correct horse"


@dataclass
class Shell:
    """A terminal of somebody, with the settings that let them in."""

    environment: dict[str, str]

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words], env=self.environment, input=stdin, capture_output=True, text=True, timeout=SECONDS
        )

    def json(self, *words: str, stdin: str = "") -> Any:
        done = self.run(*words, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def shell(**settings: str) -> Shell:
    plain = {key: value for key, value in os.environ.items() if not key.startswith("LOGQUEUE_")}
    return Shell(plain | {f"LOGQUEUE_{key.upper()}": value for key, value in settings.items()})


def login(broker: EmbeddedBroker, authority: Authority, user: str, password: str, **more: str) -> Shell:
    return shell(
        bootstrap=broker.address_of("SASL_SSL"),
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username=user,
        sasl_password=password,
        ssl_cafile=str(authority.path),
        **more,
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("users") / "data"
    done = shell().run("users", "add", "boss", "--offline", "--data-dir", str(folder), stdin=f"{BOSS_PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def broker(data_dir: Path, authority: Authority) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(
        data_dir,
        fsync=False,
        listeners=("SASL_SSL://127.0.0.1:0",),
        ssl_keystore_location=str(authority.issue("localhost", hosts=("localhost", "127.0.0.1"))),
        authorizer_class_name=STANDARD_AUTHORIZER,
        super_users="User:boss",
        connection_failed_authentication_delay_ms=10,
    ) as running:
        yield running


@pytest.fixture
def boss(broker: EmbeddedBroker, authority: Authority) -> Shell:
    return login(broker, authority, "boss", BOSS_PASSWORD)


def test_the_file_of_users_is_for_its_owner_alone_and_holds_no_password(data_dir: Path) -> None:
    path = data_dir / FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert BOSS_PASSWORD not in path.read_text("utf-8")


def test_users_offline_are_listed_and_removed(tmp_path: Path) -> None:
    here = ("--offline", "--data-dir", str(tmp_path / "d"))
    assert shell().run("users", "list", *here).returncode == 0
    shell().run("users", "add", "a", "--mechanism", "SCRAM-SHA-256", *here, stdin="pw\n")
    items = shell().json("users", "list", *here)["items"]
    assert items == [{"user": "a", "mechanisms": "SCRAM-SHA-256 (8192)"}]
    assert shell().run("users", "remove", "a", *here).returncode == 0
    assert shell().run("users", "remove", "a", *here).returncode == ExitCode.NOT_FOUND


def test_a_folder_in_use_is_not_changed_offline(broker: EmbeddedBroker) -> None:
    done = shell().run("users", "add", "x", "--offline", "--data-dir", str(broker.data_dir), stdin="pw\n")
    assert done.returncode == ExitCode.FAILED
    assert "is in use" in done.stderr


def test_users_are_added_listed_and_removed_while_the_broker_runs(
    broker: EmbeddedBroker, authority: Authority, boss: Shell, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text("tr\u00e8s secret\nnot this line\n")
    assert boss.run("users", "add", "carol", "--password-file", str(secret)).returncode == 0
    assert [item["user"] for item in boss.json("users", "list")["items"]] == ["boss", "carol"]
    carol = login(broker, authority, "carol", "tr\u00e8s secret")
    denied = carol.run("users", "list")
    assert denied.returncode == ExitCode.FAILED
    assert "CLUSTER_AUTHORIZATION_FAILED" in denied.stderr
    assert boss.run("users", "remove", "carol").returncode == 0
    gone = carol.run("users", "list")
    assert gone.returncode == ExitCode.FAILED
    assert "invalid credentials" in gone.stderr
    assert boss.run("users", "remove", "carol").returncode == ExitCode.NOT_FOUND


def test_acls_are_added_listed_and_removed(boss: Shell) -> None:
    words = ("--principal", "User:dora", "--topic", "jobs.", "--prefixed")
    added = boss.json("acls", "add", *words, "--operation", "read", "--operation", "write")["items"]
    assert len(added) == 2
    boss.json("acls", "add", "--principal", "User:dora", "--group", "g", "--operation", "read", "--deny")
    found = boss.json("acls", "list", "--principal", "User:dora")["items"]
    assert {(a["resource"], a["name"], a["pattern"], a["operation"], a["permission"]) for a in found} == {
        ("topic", "jobs.", "prefixed", "read", "allow"),
        ("topic", "jobs.", "prefixed", "write", "allow"),
        ("group", "g", "literal", "read", "deny"),
    }
    assert boss.json("acls", "remove", *words)["items"] == [a for a in found if a["resource"] == "topic"]
    assert len(boss.json("acls", "remove", "--principal", "User:dora")["items"]) == 1
    assert boss.json("acls", "list", "--principal", "User:dora")["items"] == []


@pytest.mark.parametrize(
    "words",
    [
        ("acls", "add", "--principal", "User:a", "--operation", "read"),
        ("acls", "add", "--principal", "alice", "--operation", "read", "--topic", "t"),
        ("acls", "add", "--operation", "read", "--topic", "t"),
        ("acls", "add", "--principal", "User:a", "--operation", "read", "--topic", "t", "--host", ""),
        ("acls", "remove"),
        ("users", "add", "x", "--password-file", "/nowhere"),
        ("users", "add", "x"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(words: tuple[str, ...], boss: Shell) -> None:
    assert boss.run(*words).returncode == ExitCode.USAGE


def test_a_wrong_password_and_a_stranger_of_an_authority_are_told_plainly(
    broker: EmbeddedBroker, authority: Authority, tmp_path: Path
) -> None:
    done = login(broker, authority, "boss", "wrong").run("acls", "list")
    assert done.returncode == ExitCode.FAILED
    assert "invalid credentials" in done.stderr
    stranger = Authority.make(tmp_path, "Stranger")
    done = login(broker, stranger, "boss", BOSS_PASSWORD).run("acls", "list")
    assert done.returncode == ExitCode.UNREACHABLE
    assert "the certificate is not trusted" in done.stderr
    assert "Traceback" not in done.stderr


APP = """
from logqueue import App

app = App("shop")
app.queue("sums", default_type="sum", partitions=2)


@app.job("sum", queue="sums")
async def add(*, a: int, b: int) -> dict:
    return {"sum": a + b}
"""


def test_a_worker_runs_jobs_over_sasl_ssl_with_acls_on_its_own_topics_and_group_only(
    broker: EmbeddedBroker, authority: Authority, boss: Shell, tmp_path: Path
) -> None:
    boss.run("users", "add", "shop", stdin="shop's\n")
    for words in (
        ("--topic", "shop.", "--prefixed", "--operation", "all"),
        ("--group", "shop", "--prefixed", "--operation", "all"),
    ):
        assert boss.run("acls", "add", "--principal", "User:shop", *words).returncode == 0
    (tmp_path / "shop.py").write_text(APP)
    shop = login(broker, authority, "shop", "shop's", topic_prefix="shop.")
    worker = subprocess.Popen(
        [*COMMAND, "worker", "shop:app"], cwd=tmp_path, env=shop.environment, stdout=subprocess.PIPE, text=True
    )
    api = subprocess.Popen(
        [*COMMAND, "api", "--http-port", "0", "--data-dir", str(tmp_path / "view")],
        cwd=tmp_path,
        env=shop.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert worker.stdout is not None
        assert "ready" in worker.stdout.readline()
        assert api.stdout is not None
        address = next(word for word in api.stdout.readline().split() if word.startswith("http"))
        done = shop.run("submit", "sum", "a=2", "b=3", "--wait", "--api", address)
        assert done.returncode == 0, done.stderr
        assert "5" in done.stdout
    finally:
        for process in (worker, api):
            process.terminate()
            process.wait(SECONDS)
            assert process.stdout is not None
            process.stdout.close()
