"""Two other implementations of the protocol, kio and kafka-python, agree on every byte and every field."""

from __future__ import annotations

import datetime
import enum
import importlib
import io
import pkgutil
import uuid
import warnings
from typing import Any

import pytest
from kio.serial import entity_reader, entity_writer

from logqueue.protocol import codec
from logqueue.protocol.frames import RequestHeader, request_type, response_type, write_request, write_response
from logqueue.protocol.messages.api_versions import ApiVersionsResponse
from logqueue.protocol.schema import Message, Struct
from logqueue.protocol.versions import SERVED

SERVED_TYPES = [find(key) for key in SERVED for find in (request_type, response_type)]
VARIANTS = ["full", "null", "empty"]
# The consumer protocol (KIP-848), which kafka-python does not speak.
NOT_IN_KAFKA_PYTHON = {
    "ConsumerGroupHeartbeatRequest",
    "ConsumerGroupHeartbeatResponse",
    "ConsumerGroupDescribeRequest",
    "ConsumerGroupDescribeResponse",
}


def kio_entity(message_type: type[Message], version: int) -> Any:
    """kio's class of a message version, or None where kio has none."""
    name = message_type.__name__
    folder = message_type.__module__.rpartition(".")[2]
    part = "request" if name.endswith("Request") else "response"
    try:
        module = importlib.import_module(f"kio.schema.{folder}.v{version}.{part}")
    except ModuleNotFoundError:
        return None
    return getattr(module, name)


def _kafka_python_messages() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # kafka-python reads its resources in an old way
        root = importlib.import_module("kafka.protocol")
        for package in pkgutil.iter_modules(root.__path__, "kafka.protocol."):
            if package.ispkg and package.name.rpartition(".")[2] in ("admin", "consumer", "metadata", "producer"):
                importlib.import_module(package.name)
        base = importlib.import_module("kafka.protocol.api_message").ApiMessage
    return {found.__name__: found for found in base.__subclasses__()}


KAFKA_PYTHON = _kafka_python_messages()


def test_the_oracles_know_every_served_api() -> None:
    """So that a renamed module in an oracle cannot turn the comparison off unnoticed."""
    known_to_kio = [t for t in SERVED_TYPES if any(kio_entity(t, v) for v in range(t.versions.min, t.versions.max + 1))]
    assert len(known_to_kio) >= len(SERVED_TYPES) - 2
    assert {t.__name__ for t in SERVED_TYPES} - set(KAFKA_PYTHON) == NOT_IN_KAFKA_PYTHON


def plain(value: Any) -> Any:
    """An oracle's value as ours would be."""
    match value:
        case enum.Enum():
            return value.value
        case datetime.timedelta():
            return value // datetime.timedelta(milliseconds=1)
        case datetime.datetime():
            return round(value.timestamp() * 1000)
        case uuid.UUID():
            return value.bytes
        case memoryview():
            return bytes(value)
        case set():
            return sum(1 << bit for bit in value)  # authorised operations
        case _:
            return value


def their_value(theirs: Any, name: str) -> Any:
    without_unit = name.removesuffix("_ms")  # kio turns milliseconds into times
    without_scope = name.removeprefix("cluster_").removeprefix("topic_")  # kafka-python: authorized_operations
    for spelling in (name, without_unit, without_scope):
        if hasattr(theirs, spelling):
            return getattr(theirs, spelling)
    raise AssertionError(f"{type(theirs).__name__} has no {name}")


def assert_same(ours: Any, theirs: Any, version: int, path: str) -> None:
    if isinstance(ours, Struct):
        for field in type(ours).fields:
            if field.is_in(version):
                if field.tag is not None and getattr(ours, field.name) is None:
                    continue  # an absent tagged struct is None here, and a struct of defaults there
                assert_same(getattr(ours, field.name), their_value(theirs, field.name), version, f"{path}.{field.name}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), path
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other, version, f"{path}[]")
    else:
        theirs = plain(theirs)
        assert ours == (bytes(16) if isinstance(ours, bytes) and theirs is None else theirs), path


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("served_type", SERVED_TYPES, ids=lambda t: t.__name__)
def test_kio_reads_what_we_write_and_writes_the_same_bytes(served_type: type[Message], variant: str, fill: Any) -> None:
    for version in range(served_type.versions.min, served_type.versions.max + 1):
        entity_type = kio_entity(served_type, version)
        if entity_type is None:
            continue
        message = fill(served_type, version, variant)
        data = b"".join(codec.write(message, version))
        entity, size = entity_reader(entity_type)(data, 0)
        assert size == len(data)
        assert_same(message, entity, version, f"{served_type.__name__} v{version}")
        written = io.BytesIO()
        entity_writer(entity_type)(written, entity)
        assert written.getvalue() == data, f"version {version}"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "served_type", [t for t in SERVED_TYPES if t.__name__ not in NOT_IN_KAFKA_PYTHON], ids=lambda t: t.__name__
)
def test_kafka_python_reads_what_we_write_and_writes_the_same_bytes(
    served_type: type[Message], variant: str, fill: Any
) -> None:
    oracle = KAFKA_PYTHON[served_type.__name__]
    for version in range(served_type.versions.min, min(served_type.versions.max, oracle.max_version) + 1):
        message = fill(served_type, version, variant)
        if isinstance(message, ApiVersionsResponse):
            message.error_code = 0  # with an error, kafka-python reads any version as version 0
        frame = whole_frame(message, version)
        decoded = oracle.decode(frame, version=version, header=True, framed=True)
        assert_same(message, decoded, version, f"{served_type.__name__} v{version}")
        assert bytes(decoded.encode(header=True, framed=True)) == frame, f"version {version}"


def whole_frame(message: Message, version: int) -> bytes:
    key = message.api_key
    assert key is not None
    if type(message) is request_type(key):
        segments = write_request(RequestHeader(key, version, 7, "client"), message)
    else:
        segments = write_response(key, version, 7, message)
    return b"".join(segments)  # type: ignore[arg-type]
