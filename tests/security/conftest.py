"""Certificates made for the run, and brokers with everything that security has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from logqueue.config.security import STANDARD_AUTHORIZER
from logqueue.testing import EmbeddedBroker
from tests.security.authority import Authority
from tests.security.people import ADMIN, ALICE, BOB, write_users


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that signs the certificates of the tests."""
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def fortress(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A broker with a listener of each protocol, users, and ACLs that allow nobody but the admin anything."""
    data_dir = tmp_path_factory.mktemp("fortress")
    write_users(data_dir, ADMIN, ALICE, BOB)
    server = authority.issue("localhost", hosts=("localhost", "127.0.0.1"))
    with EmbeddedBroker(
        data_dir,
        fsync=False,
        listeners=(
            "PLAINTEXT://127.0.0.1:0",
            "SASL_PLAINTEXT://127.0.0.1:0",
            "SSL://127.0.0.1:0",
            "SASL_SSL://127.0.0.1:0",
        ),
        sasl_enabled_mechanisms=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        ssl_keystore_location=str(server),
        ssl_truststore_location=str(authority.path),
        ssl_client_auth="requested",
        authorizer_class_name=STANDARD_AUTHORIZER,
        super_users=f"User:{ADMIN.name};User:CN=root",
        connection_failed_authentication_delay_ms=10,
    ) as broker:
        yield broker


@pytest.fixture(scope="session")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("security")
