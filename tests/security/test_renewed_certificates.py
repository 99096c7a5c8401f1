"""Certificates that are replaced while the broker runs (KIP-226): new connections get the new one, or the old stays."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from logqueue.broker.network.certificates import CHECK_SECONDS, Certificates
from logqueue.broker.network.door import Door
from logqueue.config import BrokerConfig, InvalidConfig
from logqueue.config.listeners import listeners_of
from logqueue.errors import ErrorCode
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, create_topic
from tests.operations.wire_configs import BROKER, SET, alter
from tests.security.authority import Authority
from tests.security.login import tls_wire

KEYSTORE = "ssl.keystore.location"


@pytest.fixture
def keystore(authority: Authority, tmp_path: Path) -> Path:
    """The file that the broker serves; `renew` puts another certificate into it."""
    path = tmp_path / "server.pem"
    renew(authority, path)
    return path


@pytest.fixture
def broker(keystore: Path, authority: Authority, tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(
        tmp_path / "data",
        fsync=False,
        listeners=("PLAINTEXT://127.0.0.1:0", "SSL://127.0.0.1:0"),
        ssl_keystore_location=str(keystore),
    ) as running:
        yield running


def renew(authority: Authority, path: Path) -> None:
    shutil.move(authority.issue("localhost", hosts=("localhost", "127.0.0.1")), path)


def serial_number(wire: Wire) -> int:
    assert isinstance(wire.socket, ssl.SSLSocket)
    return x509.load_der_x509_certificate(wire.socket.getpeercert(binary_form=True) or b"").serial_number


def served(broker: EmbeddedBroker, authority: Authority) -> int:
    with tls_wire(broker.address_of("SSL"), authority.path) as wire:
        return serial_number(wire)


def test_naming_the_file_again_serves_what_is_in_it_now(
    broker: EmbeddedBroker, authority: Authority, keystore: Path
) -> None:
    with Wire(broker.bootstrap) as wire, tls_wire(broker.address_of("SSL"), authority.path) as before:
        old = serial_number(before)
        renew(authority, keystore)
        assert served(broker, authority) == old
        assert alter(wire, BROKER, "1", (KEYSTORE, SET, str(keystore))) == 0
        assert served(broker, authority) != old
        create_topic(before, "t")  # who was connected stays so


def test_a_file_that_cannot_be_served_is_refused(broker: EmbeddedBroker, authority: Authority, tmp_path: Path) -> None:
    old = served(broker, authority)
    with Wire(broker.bootstrap) as wire:
        assert alter(wire, BROKER, "1", (KEYSTORE, SET, str(tmp_path / "missing.pem"))) == ErrorCode.INVALID_REQUEST
        assert alter(wire, BROKER, "1", ("ssl.client.auth", SET, "required")) == ErrorCode.INVALID_REQUEST
    assert served(broker, authority) == old


class Watched:
    """Certificates of one listener, woken by hand."""

    def __init__(self, config: BrokerConfig) -> None:
        self.config = config
        self.door = Door(endpoint=listeners_of(config)[0])
        self.wakes: list[float] = []
        self.certificates = Certificates([self.door], config)
        self.certificates.watch(lambda seconds, each: self.wakes.append(seconds), lambda: self.config)


@pytest.fixture
def watched(keystore: Path, tmp_path: Path) -> Watched:
    listeners = ("SSL://127.0.0.1:0",)
    return Watched(BrokerConfig(data_dir=tmp_path, listeners=listeners, ssl_keystore_location=str(keystore)))


def test_a_file_that_changed_is_served_without_a_word(watched: Watched, authority: Authority, keystore: Path) -> None:
    first = watched.door.tls
    watched.certificates.on_deadline()
    assert watched.door.tls is first
    renew(authority, keystore)
    watched.certificates.on_deadline()
    assert watched.door.tls is not first
    assert watched.wakes == [CHECK_SECONDS] * 3


def test_a_file_that_is_half_written_changes_nothing_and_is_told_once(
    watched: Watched, authority: Authority, keystore: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = watched.door.tls
    keystore.write_bytes(keystore.read_bytes()[:100])
    for _ in range(3):
        watched.certificates.on_deadline()
    assert watched.door.tls is first
    assert sum("stay as they were" in record.message for record in caplog.records) == 1
    renew(authority, keystore)
    watched.certificates.on_deadline()
    assert watched.door.tls is not first


def test_what_cannot_be_used_is_found_before_it_is_stored(watched: Watched, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be used"):
        watched.certificates.check(watched.config.with_(ssl_keystore_location=str(tmp_path / "missing.pem")))
