"""What people are told whose settings do not fit the log: by `logqueue up` before it starts anything, by clients."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from logqueue_api.cli.exits import ExitCode

from logqueue.jobs.connection import new_admin, start_client
from logqueue.jobs.errors import BrokerUnreachable
from logqueue.jobs.settings import Settings
from logqueue.jobs.wire import LoginRefused, NobodyThere, WireError, why_no_entry
from logqueue.testing import EmbeddedBroker
from tests.security.authority import Authority
from tests.security.people import ALICE, write_users

FREE_PORT = "127.0.0.1:1"  # nobody listens there: it takes a right that tests do not need


@pytest.fixture(scope="module")
def broker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    data_dir = tmp_path_factory.mktemp("entry")
    write_users(data_dir, ALICE)
    with EmbeddedBroker(
        data_dir,
        fsync=False,
        listeners=("SASL_SSL://127.0.0.1:0", "SASL_PLAINTEXT://127.0.0.1:0", "PLAINTEXT://127.0.0.1:0"),
        ssl_keystore_location=str(authority.issue("localhost", hosts=("127.0.0.1",))),
        connection_failed_authentication_delay_ms=10,
    ) as running:
        yield running


def good(broker: EmbeddedBroker, authority: Authority) -> dict[str, str]:
    return {
        "bootstrap": broker.address_of("SASL_SSL"),
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_username": ALICE.name,
        "sasl_password": ALICE.password,
        "ssl_cafile": str(authority.path),
    }


def test_who_fits_is_let_in_by_any_address_that_works(broker: EmbeddedBroker, authority: Authority) -> None:
    settings = good(broker, authority)
    assert why_no_entry(Settings(**settings)) is None
    assert why_no_entry(Settings(**settings | {"bootstrap": f"{FREE_PORT},{settings['bootstrap']}"})) is None


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"sasl_password": "wrong"}, LoginRefused, "invalid credentials"),
        ({"sasl_username": "nobody"}, LoginRefused, "invalid credentials"),
        ({"sasl_mechanism": "PLAIN"}, LoginRefused, "does not take PLAIN, but SCRAM-SHA-256, SCRAM-SHA-512"),
        ({"bootstrap": FREE_PORT}, NobodyThere, "no log answers at 127.0.0.1:1: Connection refused"),
        ({"security_protocol": "PLAINTEXT"}, WireError, "ended the connection, on which we spoke PLAINTEXT"),
        (
            {"security_protocol": "SSL"},
            WireError,
            "ended the connection, on which we spoke SSL without a certificate of ours",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    changes: dict[str, str], kind: type[WireError], words: str, broker: EmbeddedBroker, authority: Authority
) -> None:
    failure = why_no_entry(Settings(**good(broker, authority) | changes))
    assert type(failure) is kind
    assert words in str(failure)


def test_an_unknown_authority_and_a_listener_without_tls_are_named(
    broker: EmbeddedBroker, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority.make(tmp_path, "Stranger")
    settings = good(broker, authority) | {"ssl_cafile": str(stranger.path)}
    assert "the certificate is not trusted" in str(why_no_entry(Settings(**settings)))
    for listener in ("PLAINTEXT", "SASL_PLAINTEXT"):
        settings = good(broker, authority) | {"bootstrap": broker.address_of(listener)}
        assert "TLS with" in str(why_no_entry(Settings(**settings), patience_s=2))


def test_a_client_that_gives_up_says_that_the_login_failed(broker: EmbeddedBroker, authority: Authority) -> None:
    right = Settings(**good(broker, authority))
    wrong = replace(right, sasl_password="wrong", connect_timeout_s=0.5)
    with pytest.raises(BrokerUnreachable, match=r"cannot be used: .*invalid credentials.*LOGQUEUE_SASL_"):
        asyncio.run(start_client(lambda: new_admin(wrong), wrong))


def up(folder: Path, settings: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOGQUEUE_")}
    environment |= {f"LOGQUEUE_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "logqueue_api.cli.main", "up", "--data-dir", str(folder / "data"), *words]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_up_tells_of_a_wrong_password_before_it_starts_anything(
    broker: EmbeddedBroker, authority: Authority, tmp_path: Path
) -> None:
    done = up(tmp_path, good(broker, authority) | {"sasl_password": "wrong"})
    assert (done.returncode, done.stdout) == (ExitCode.FAILED, "")
    assert "invalid credentials" in done.stderr
    assert "LOGQUEUE_SASL_" in done.stderr
    assert not (tmp_path / "data").exists()


def test_up_does_not_start_a_plain_log_for_clients_that_would_encrypt(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "logqueue.toml").write_text('security_protocol = "SSL"\n')
    for settings in ({}, {"security_protocol": "SSL"}):
        done = up(tmp_path, settings)
        assert done.returncode == ExitCode.USAGE
        assert "security_protocol SSL is for a log of your own" in done.stderr
        assert not (tmp_path / "data").exists()
