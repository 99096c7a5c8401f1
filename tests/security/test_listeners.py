"""Listeners, TLS and SASL at the byte level: who gets in, how, and what everybody else is told."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logqueue.config import BrokerConfig, InvalidConfig
from logqueue.config.listeners import listeners_of
from logqueue.config.security import STANDARD_AUTHORIZER
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.api_versions import ApiVersionsRequest
from logqueue.protocol.messages.create_acls import AclCreation, CreateAclsRequest
from logqueue.protocol.messages.metadata import MetadataRequest
from logqueue.security.acl import Operation, PatternType, Permission, ResourceType
from logqueue.security.subject import distinguished_name
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, fetch_request, produce_request, values_of
from tests.conftest import missing
from tests.security.authority import Authority
from tests.security.login import authenticate, handshake, log_in, plain, tls_wire, wire_of
from tests.security.people import ADMIN, ALICE, BOB, Person, write_users


def produce(wire: Wire, topic: str, value: bytes) -> int:
    response = wire.call(9, produce_request(topic, batch(value), acks=1))
    code: int = response.responses[0].partition_responses[0].error_code
    return code


def test_nothing_but_versions_and_a_handshake_is_served_before_the_client_is_known(fortress: EmbeddedBroker) -> None:
    with Wire(fortress.address_of("SASL_PLAINTEXT")) as wire:
        assert wire.call(3, ApiVersionsRequest(client_software_name="w", client_software_version="1")).error_code == 0
        wire.send(9, MetadataRequest(topics=None))
        assert wire.is_closed_by_broker()


def test_tokens_without_a_handshake_end_the_connection(fortress: EmbeddedBroker) -> None:
    with Wire(fortress.address_of("SASL_PLAINTEXT")) as wire, pytest.raises(EOFError):
        authenticate(wire, plain(ADMIN))


def test_an_unknown_mechanism_is_refused_with_the_list_of_the_others(fortress: EmbeddedBroker) -> None:
    with Wire(fortress.address_of("SASL_PLAINTEXT")) as wire:
        answer = handshake(wire, "GSSAPI")
        assert answer.error_code == ErrorCode.UNSUPPORTED_SASL_MECHANISM
        assert answer.mechanisms == ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
        assert wire.is_closed_by_broker()


@pytest.mark.parametrize("person", [Person(ALICE.name, "wrong"), Person("nobody", "wrong")])
def test_a_failed_authentication_is_told_without_a_hint_and_ends_the_connection(
    fortress: EmbeddedBroker, person: Person
) -> None:
    with Wire(fortress.address_of("SASL_PLAINTEXT")) as wire:
        answer = log_in(wire, person)
        assert answer.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
        assert answer.error_message == "Authentication failed: Invalid username or password"
        assert wire.is_closed_by_broker()


def test_tokens_without_headers_follow_a_handshake_of_version_0(fortress: EmbeddedBroker) -> None:
    with Wire(fortress.address_of("SASL_PLAINTEXT")) as wire:
        assert handshake(wire, version=0).error_code == 0
        token = plain(ADMIN)
        wire.socket.sendall(struct.pack(">i", len(token)) + token)
        assert wire.read_exactly(4) == bytes(4)
        assert produce(wire, "raw", b"v") == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


@pytest.mark.parametrize("listener", ["PLAINTEXT", "SSL"])
def test_sasl_on_a_listener_without_it_is_an_illegal_state(
    fortress: EmbeddedBroker, authority: Authority, listener: str
) -> None:
    address = fortress.address_of(listener)
    with Wire(address) if listener == "PLAINTEXT" else tls_wire(address, authority.path) as wire:
        assert handshake(wire).error_code == ErrorCode.ILLEGAL_SASL_STATE
        assert authenticate(wire, b"").error_code == ErrorCode.ILLEGAL_SASL_STATE


def test_a_large_request_before_authentication_is_not_read(fortress: EmbeddedBroker) -> None:
    with Wire(fortress.address_of("SASL_PLAINTEXT")) as wire:
        wire.socket.sendall(struct.pack(">i", 600_000))
        assert wire.is_closed_by_broker()


def test_each_listener_tells_its_own_address(fortress: EmbeddedBroker, authority: Authority) -> None:
    with wire_of(fortress.address_of("SASL_PLAINTEXT"), ADMIN) as plain_wire:
        broker = plain_wire.call(9, MetadataRequest(topics=[])).brokers[0]
        assert f"{broker.host}:{broker.port}" == fortress.address_of("SASL_PLAINTEXT")
    with tls_wire(fortress.address_of("SASL_SSL"), authority.path) as wire:
        log_in(wire, ADMIN)
        broker = wire.call(9, MetadataRequest(topics=[])).brokers[0]
        assert f"{broker.host}:{broker.port}" == fortress.address_of("SASL_SSL")


def test_large_records_go_both_ways_over_tls_and_pipelined_requests_keep_their_order(
    fortress: EmbeddedBroker, authority: Authority
) -> None:
    value = bytes(range(256)) * 3000
    with tls_wire(fortress.address_of("SASL_SSL"), authority.path) as wire:
        log_in(wire, ADMIN)
        wire.call(9, _create("big"))
        numbers = [wire.send(9, produce_request("big", batch(value), acks=1)) for _ in range(8)]
        assert [wire.receive()[0] for _ in numbers] == numbers
        found = values_of(wire.call(12, fetch_request("big", 0)))
        assert found == [value] * 8


def _create(name: str) -> MetadataRequest:
    from logqueue.protocol.messages.metadata import MetadataRequestTopic

    return MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=True)


def test_versions_of_tls_that_are_not_enabled_are_refused(fortress: EmbeddedBroker, authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    host, port = fortress.address_of("SSL").split(":")
    with socket.create_connection((host, int(port))) as raw, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(raw)


def test_required_client_certificates_are_required(authority: Authority, tmp_path: Path) -> None:
    server = authority.issue("localhost", hosts=("localhost",))
    stranger = Authority.make(tmp_path, "Stranger")
    with EmbeddedBroker(
        fsync=False,
        listeners=("SSL://127.0.0.1:0",),
        ssl_keystore_location=str(server),
        ssl_truststore_certificates=authority.path.read_text(),
        ssl_client_auth="required",
    ) as broker:
        with tls_wire(broker.bootstrap, authority.path, authority.issue("me")) as wire:
            assert wire.call(9, MetadataRequest(topics=[])).brokers
        for certificate in (None, stranger.issue("me")):
            with pytest.raises((ssl.SSLError, EOFError, OSError)):  # noqa: SIM117
                with tls_wire(broker.bootstrap, authority.path, certificate) as wire:
                    wire.call(9, MetadataRequest(topics=[]))


def test_a_client_that_speaks_before_it_is_refused_reads_why(authority: Authority, tmp_path: Path) -> None:
    with EmbeddedBroker(
        fsync=False,
        listeners=("SSL://127.0.0.1:0",),
        ssl_keystore_location=str(authority.issue("localhost", hosts=("localhost",))),
        ssl_truststore_location=str(authority.path),
        ssl_client_auth="required",
    ) as broker:
        context = ssl.create_default_context(cafile=str(authority.path))
        host, port = broker.bootstrap.split(":")
        for _ in range(20):
            with socket.create_connection((host, int(port))) as raw:
                raw.settimeout(10)
                # With TLS 1.3 the client's half of the handshake is through before the broker has judged it.
                with context.wrap_socket(raw, server_hostname="localhost") as early:
                    early.sendall(struct.pack(">i", 70_000) + bytes(70_000))
                    with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
                        early.recv(1)


def test_a_required_certificate_is_not_asked_for_where_clients_log_in(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_users(tmp_path / "data", ADMIN)
    with (
        EmbeddedBroker(
            tmp_path / "data",
            fsync=False,
            listeners=("SASL_SSL://127.0.0.1:0",),
            sasl_enabled_mechanisms=("PLAIN",),
            ssl_keystore_location=str(authority.issue("localhost", hosts=("localhost",))),
            ssl_client_auth="required",
        ) as broker,
        tls_wire(broker.bootstrap, authority.path) as wire,
    ):
        log_in(wire, ADMIN)
        assert wire.call(9, MetadataRequest(topics=[])).brokers
    assert "ssl.client.auth applies to SSL listeners only" in caplog.text


def test_an_encrypted_key_inline_needs_its_password(authority: Authority) -> None:
    pem = authority.issue("encrypted", hosts=("localhost",), password="sesame").read_text()
    end = "-----END ENCRYPTED PRIVATE KEY-----\n"
    key, _, chain = pem.partition(end)
    options: dict[str, Any] = {
        "listeners": ("SSL://127.0.0.1:0",),
        "ssl_keystore_key": key + end,
        "ssl_keystore_certificate_chain": chain,
    }
    with (
        EmbeddedBroker(fsync=False, ssl_key_password="sesame", **options) as broker,
        tls_wire(broker.bootstrap, authority.path) as wire,
    ):
        assert wire.call(9, MetadataRequest(topics=[])).brokers
    with pytest.raises(InvalidConfig, match=r"ssl\.keystore\.key"):
        EmbeddedBroker(fsync=False, ssl_key_password="wrong", **options).start()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "needs a certificate"),
        ({"ssl_keystore_location": "/nowhere.pem"}, "cannot be used: No such file"),
    ],
)
def test_a_listener_with_tls_says_what_it_misses(options: dict[str, str], complaint: str) -> None:
    with pytest.raises(InvalidConfig, match=complaint):
        EmbeddedBroker(fsync=False, listeners=("SSL://127.0.0.1:0",), **options).start()


@pytest.mark.parametrize(
    ("properties", "complaint"),
    [
        ({"listeners": "nonsense"}, "not of the form"),
        ({"listeners": "PLAINTEXT://localhost:99999"}, "not of the form"),
        ({"listeners": "INSIDE://localhost:1"}, "has no protocol"),
        ({"listeners": "PLAINTEXT://a:1,PLAINTEXT://b:2"}, "different name"),
        ({"listeners": "PLAINTEXT://a:1,SSL://b:1"}, "different port"),
        ({"advertised.listeners": "SSL://a:1"}, "is not in listeners"),
        ({"advertised.listeners": "PLAINTEXT://0.0.0.0:1"}, "that they can connect to"),
        ({"listener.security.protocol.map": "PLAINTEXT:KERBEROS"}, "has none of"),
    ],
)
def test_a_listener_that_cannot_be_is_named_with_its_setting(properties: dict[str, str], complaint: str) -> None:
    with pytest.raises(InvalidConfig, match=complaint):
        listeners_of(BrokerConfig.from_properties(properties))


def test_listener_names_are_free_and_clients_are_told_the_advertised_address() -> None:
    config = {
        "listeners": ("inside://127.0.0.1:0",),
        "listener_security_protocol_map": ("INSIDE:PLAINTEXT",),
        "advertised_listeners": ("INSIDE://kafka.example:19092",),
    }
    with EmbeddedBroker(fsync=False, **config) as broker, Wire(broker.address_of("INSIDE")) as wire:
        told = wire.call(9, MetadataRequest(topics=[])).brokers[0]
        assert (told.host, told.port) == ("kafka.example", 19092)


def test_a_client_of_ipv4_has_the_same_address_on_a_listener_of_both_kinds(tmp_path: Path) -> None:
    try:
        socket.socket(socket.AF_INET6).close()
    except OSError as error:
        missing(f"IPv6: {error.strerror}")
    with (
        EmbeddedBroker(
            tmp_path,
            fsync=False,
            listeners=("PLAINTEXT://[::]:0",),
            authorizer_class_name=STANDARD_AUTHORIZER,
            allow_everyone_if_no_acl_found=True,
            max_connections_per_ip_overrides=("127.0.0.1:2",),
        ) as broker,
        Wire(f"127.0.0.1:{broker.port}") as wire,
        Wire(f"127.0.0.1:{broker.port}") as other,
    ):
        assert wire.call(9, MetadataRequest(topics=[])).brokers[0].host == "127.0.0.1"
        wire.call(9, _create("t"))
        denial = AclCreation(
            resource_type=ResourceType.TOPIC,
            resource_name="t",
            resource_pattern_type=PatternType.LITERAL,
            principal="User:*",
            host="127.0.0.1",
            operation=Operation.ALL,
            permission_type=Permission.DENY,
        )
        assert wire.call(2, CreateAclsRequest(creations=[denial])).results[0].error_code == 0
        assert produce(other, "t", b"v") == ErrorCode.TOPIC_AUTHORIZATION_FAILED
        with Wire(f"127.0.0.1:{broker.port}") as third:
            assert third.is_closed_by_broker()


def test_a_listener_without_a_host_is_on_all_addresses() -> None:
    with EmbeddedBroker(fsync=False, listeners=("PLAINTEXT://:0",)) as broker:
        with Wire(f"127.0.0.1:{broker.port}") as wire:
            (told,) = wire.call(9, MetadataRequest(topics=[])).brokers
        assert (told.host, told.port) == ("127.0.0.1", broker.port)


def test_a_restart_comes_back_to_the_ports_of_all_listeners(tmp_path: Path) -> None:
    write_users(tmp_path, ALICE)
    listeners = ("PLAINTEXT://127.0.0.1:0", "SASL_PLAINTEXT://127.0.0.1:0")
    with EmbeddedBroker(tmp_path, fsync=False, listeners=listeners, sasl_enabled_mechanisms=("PLAIN",)) as broker:
        before = broker.address_of("SASL_PLAINTEXT")
        broker.restart()
        assert broker.address_of("SASL_PLAINTEXT") == before
        with wire_of(before, ALICE) as wire:
            assert wire.call(9, MetadataRequest(topics=[])).brokers


LIFETIME_MS = 1050  # more than the second in which nobody may authenticate twice


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A broker whose SASL sessions end (KIP-368)."""
    folder = tmp_path_factory.mktemp("again")
    write_users(folder, ALICE, BOB)
    with EmbeddedBroker(
        folder,
        fsync=False,
        listeners=("SASL_PLAINTEXT://127.0.0.1:0",),
        sasl_enabled_mechanisms=("PLAIN", "SCRAM-SHA-256"),
        connections_max_reauth_ms=LIFETIME_MS,
        connection_failed_authentication_delay_ms=0,
    ) as running:
        yield running


def test_the_lifetime_is_told_and_a_session_that_outlives_it_ends(brief: EmbeddedBroker) -> None:
    with Wire(brief.bootstrap) as wire:
        assert log_in(wire, ALICE).session_lifetime_ms == LIFETIME_MS
        assert wire.call(9, MetadataRequest(topics=[])).brokers
        _pass(LIFETIME_MS)
        wire.send(9, MetadataRequest(topics=[]))
        assert wire.is_closed_by_broker()


def test_a_client_that_authenticates_again_goes_on(brief: EmbeddedBroker) -> None:
    with wire_of(brief.bootstrap, ALICE) as wire:
        assert handshake(wire).error_code == ErrorCode.ILLEGAL_SASL_STATE  # within the same second
        _pass(LIFETIME_MS)
        assert log_in(wire, ALICE).error_code == 0
        assert wire.call(9, MetadataRequest(topics=[])).brokers


def test_nobody_becomes_somebody_else(brief: EmbeddedBroker) -> None:
    with wire_of(brief.bootstrap, ALICE) as wire:
        _pass(LIFETIME_MS)
        answer = log_in(wire, BOB)
        assert answer.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
        assert "Cannot change principals" in answer.error_message


def test_the_mechanism_stays(brief: EmbeddedBroker) -> None:
    with wire_of(brief.bootstrap, ALICE) as wire:
        _pass(LIFETIME_MS)
        assert handshake(wire, "SCRAM-SHA-256").error_code == 0
        answer = authenticate(wire, b"n,,n=alice,r=abc")
        assert answer.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED


def _pass(milliseconds: int) -> None:
    time.sleep(milliseconds / 1000 + 0.05)  # the lifetime itself is the rule: it has to pass


def test_a_subject_is_written_as_java_writes_it() -> None:
    certificate = {
        "subject": (
            (("countryName", "DE"),),
            (("organizationName", "Acme, Inc"),),
            (("organizationalUnitName", "a"), ("organizationalUnitName", "b")),
            (("commonName", " #x"),),
        )
    }
    assert distinguished_name(certificate) == "CN=\\ \\#x,OU=a+OU=b,O=Acme\\, Inc,C=DE"
    assert distinguished_name({}) == ""


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("job#1", r"job\#1"),
        ("#x", r"\#x"),
        ("a=b", r"a\=b"),
        ("a,b+c", r"a\,b\+c"),
        ('q"u<o>t;e', r"q\"u\<o\>t\;e"),
        ("a  b", "a  b"),
        ("  two  ", r"\ \ two\ \ "),
        ("   ", r"\ \ \ "),
        ("x\\ ", r"x\\\ "),
        ("nul\0x", r"nul\00x"),
        (" \u00e9 ", "\\ \u00e9\\ "),
        ("\u00a0x", "\u00a0x"),
        ("tab\tx", "tab\tx"),
        ("", ""),
    ],
)
def test_a_name_is_escaped_as_x500principal_of_java_17_escapes_it(name: str, written: str) -> None:
    assert distinguished_name({"subject": ((("commonName", name),),)}) == f"CN={written}"
