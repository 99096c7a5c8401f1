"""Real clients over TLS and SASL: they get in as who they are, and do what ACLs let them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient, ResourcePatternType
from confluent_kafka.admin import ResourceType as ConfluentResource

from logqueue.testing import EmbeddedBroker
from tests.clients.kafka_python import forgets_sockets
from tests.security.authority import Authority
from tests.security.people import ADMIN, ALICE, Person

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it reads its schemas through importlib.resources.read_text
    from kafka import KafkaProducer

SASL = ("SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


def confluent(
    broker: EmbeddedBroker, authority: Authority, protocol: str, mechanism: str, person: Person
) -> dict[str, Any]:
    return {
        "bootstrap.servers": broker.address_of(protocol),
        "security.protocol": protocol,
        "sasl.mechanism": mechanism,
        "sasl.username": person.name,
        "sasl.password": person.password,
        "ssl.ca.location": str(authority.path),
    }


def allow_everything(broker: EmbeddedBroker, authority: Authority, principal: str) -> None:
    """ACLs for a principal on every topic and group, made by the admin through Kafka's API."""
    admin = AdminClient(confluent(broker, authority, "SASL_SSL", "SCRAM-SHA-512", ADMIN))
    acls = [
        AclBinding(kind, "*", ResourcePatternType.LITERAL, principal, "*", AclOperation.ALL, AclPermissionType.ALLOW)
        for kind in (ConfluentResource.TOPIC, ConfluentResource.GROUP)
    ]
    for future in admin.create_acls(acls).values():
        future.result(10)


@pytest.fixture(scope="module", autouse=True)
def rights(fortress: EmbeddedBroker, authority: Authority) -> None:
    allow_everything(fortress, authority, f"User:{ALICE.name}")
    allow_everything(fortress, authority, "User:CN=service,O=Example")


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("protocol", SASL)
def test_librdkafka_produces_and_consumes(
    fortress: EmbeddedBroker, authority: Authority, protocol: str, mechanism: str
) -> None:
    config = confluent(fortress, authority, protocol, mechanism, ALICE)
    topic = f"rdk-{protocol}-{mechanism}"
    producer = Producer(config)
    for number in range(100):
        producer.produce(topic, b"x" * 10_000, key=str(number))
    assert producer.flush(20) == 0
    consumer = Consumer(config | {"group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    found: list[bytes] = []
    while batch := consumer.consume(100 - len(found), timeout=20):
        assert [message.error() for message in batch] == [None] * len(batch)
        found += [message.key() for message in batch]
    consumer.close()
    assert sorted(found) == sorted(str(number).encode() for number in range(100))


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("protocol", SASL)
def test_a_wrong_password_is_told_as_that(
    fortress: EmbeddedBroker, authority: Authority, protocol: str, mechanism: str
) -> None:
    errors: list[KafkaError] = []
    config = confluent(fortress, authority, protocol, mechanism, Person(ALICE.name, "wrong"))
    producer = Producer(config | {"error_cb": errors.append})
    for _ in range(100):
        producer.poll(0.1)
        if any(error.code() == KafkaError._AUTHENTICATION for error in errors):
            return
    raise AssertionError(errors)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_aiokafka_produces_and_consumes(fortress: EmbeddedBroker, authority: Authority, mechanism: str) -> None:
    async def session() -> list[bytes | None]:
        options: dict[str, Any] = {
            "bootstrap_servers": fortress.address_of("SASL_SSL"),
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": mechanism,
            "sasl_plain_username": ALICE.name,
            "sasl_plain_password": ALICE.password,
            "ssl_context": ssl.create_default_context(cafile=str(authority.path)),
        }
        topic = f"aio-{mechanism}"
        async with AIOKafkaProducer(**options, acks="all", enable_idempotence=True) as producer:
            await asyncio.gather(*[producer.send_and_wait(topic, b"%d" % n) for n in range(20)])
        async with AIOKafkaConsumer(topic, **options, group_id=topic, auto_offset_reset="earliest") as consumer:
            return [(await consumer.getone()).value for _ in range(20)]

    assert sorted(asyncio.run(session())) == sorted(b"%d" % n for n in range(20))  # type: ignore[type-var]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@forgets_sockets
def test_kafka_python_produces(fortress: EmbeddedBroker, authority: Authority, mechanism: str) -> None:
    producer = KafkaProducer(
        bootstrap_servers=fortress.address_of("SASL_SSL"),
        security_protocol="SASL_SSL",
        sasl_mechanism=mechanism,
        sasl_plain_username=ALICE.name,
        sasl_plain_password=ALICE.password,
        ssl_cafile=str(authority.path),
    )
    assert producer.send("kafka-python", b"value").get(20).offset >= 0
    producer.close()


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_a_client_that_does_not_trust_us_leaves(fortress: EmbeddedBroker, protocol: str, tmp_path: Path) -> None:
    stranger = Authority.make(tmp_path, "Stranger")
    context = ssl.create_default_context(cafile=str(stranger.path))
    host, port = fortress.address_of(protocol).split(":")
    with socket.create_connection((host, int(port))) as raw, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(raw, server_hostname="localhost")


def test_a_certificate_is_a_principal(fortress: EmbeddedBroker, authority: Authority) -> None:
    pem = authority.issue("service", organization="Example")
    producer = Producer(
        {
            "bootstrap.servers": fortress.address_of("SSL"),
            "security.protocol": "SSL",
            "ssl.ca.location": str(authority.path),
            "ssl.certificate.location": str(pem),
            "ssl.key.location": str(pem),
        }
    )
    answers: list[Any] = []
    producer.produce("by-certificate", b"v", on_delivery=lambda error, _: answers.append(error))
    assert producer.flush(20) == 0
    assert answers == [None]


def test_without_a_certificate_one_is_anonymous_and_may_nothing(fortress: EmbeddedBroker, authority: Authority) -> None:
    config = {"bootstrap.servers": fortress.address_of("SSL"), "security.protocol": "SSL"}
    admin = AdminClient(config | {"ssl.ca.location": str(authority.path)})
    assert admin.list_topics(timeout=10).topics == {}


def test_kcat_lists_over_sasl_ssl(fortress: EmbeddedBroker, authority: Authority) -> None:
    config = confluent(fortress, authority, "SASL_SSL", "SCRAM-SHA-256", ADMIN)
    words = [word for name, value in config.items() for word in ("-X", f"{name}={value}")]
    done = subprocess.run(["kcat", "-L", *words], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "1 brokers" in done.stdout


KAFKAJS = """
const { Kafka, logLevel } = require("kafkajs")
const fs = require("fs")
const [broker, ca, mechanism, username, password] = process.argv.slice(1)
async function main() {
  const kafka = new Kafka({ clientId: "js", brokers: [broker], logLevel: logLevel.NOTHING,
    ssl: { ca: [fs.readFileSync(ca, "utf-8")] }, sasl: { mechanism, username, password } })
  const producer = kafka.producer()
  await producer.connect()
  const sent = await producer.send({ topic: "js-" + mechanism, messages: [{ value: "v" }] })
  if (sent[0].errorCode !== 0) throw new Error(JSON.stringify(sent))
  await producer.disconnect()
}
main().catch((error) => { console.error(error); process.exit(1) })
"""


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_kafkajs_produces(fortress: EmbeddedBroker, authority: Authority, node_clients: Path, mechanism: str) -> None:
    broker = fortress.address_of("SASL_SSL").replace("127.0.0.1", "localhost")
    words = [broker, str(authority.path), mechanism.lower(), ALICE.name, ALICE.password]
    done = subprocess.run(["node", "-e", KAFKAJS, *words], cwd=node_clients, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
