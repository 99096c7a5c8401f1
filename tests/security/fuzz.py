"""Malformed requests of every API, and a broker that has to bear them. `soak` is the long form.

What is thrown: valid headers with mutated, truncated and random bodies, valid requests with one byte changed, random
bytes, huge and negative lengths, versions that nobody serves. What must hold: each request is answered or its
connection ends; the broker serves others at once; nothing is left behind.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from logqueue.protocol.frames import RequestHeader, request_type, write_request
from logqueue.protocol.messages.api_versions import ApiVersionsRequest
from logqueue.protocol.schema import Field, Struct
from logqueue.protocol.versions import SERVED
from tests.broker.wire import Wire, batch

ANSWER_SECONDS = 5.0  # longer than any request may take that asks for no waiting
READ_BYTES = 65_536
STRINGS = ("", "t", "fuzz", "__consumer_offsets", "a" * 300, "\u00fc", "..", "*", "\0")
INTEGERS = (0, 1, -1, 2, 7, 127, -128, 32_767, -32_768, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 1000)


@dataclass(slots=True)
class Tally:
    """What happened to what was thrown."""

    thrown: int = 0
    answered: int = 0
    ended: int = 0
    apis: set[int] = field(default_factory=set)


def value_of(kind: Field, version: int, rng: random.Random, depth: int) -> Any:
    """A value that the wire can carry and that probably means nothing."""
    if kind.is_nullable(version) and rng.random() < 0.2:
        return None
    match kind.kind.name:
        case "struct":
            return struct_of(kind.item, version, rng, depth + 1)
        case "array":
            count = rng.choice((0, 1, 1, 2)) if depth < 4 else 0
            if isinstance(kind.item, type) and issubclass(kind.item, Struct):
                return [struct_of(kind.item, version, rng, depth + 1) for _ in range(count)]
            return [scalar(kind.item.name, rng) for _ in range(count)]
        case name:
            return scalar(name, rng)


def scalar(name: str, rng: random.Random) -> Any:
    match name:
        case "bool":
            return rng.random() < 0.5
        case "string":
            return rng.choice(STRINGS)
        case "bytes":
            return rng.randbytes(rng.choice((0, 1, 16, 200)))
        case "records":
            return memoryview(_mutated(bytearray(batch(b"v", b"w", at_ms=1_700_000_000_000)), rng))
        case "uuid":
            return rng.choice((bytes(16), rng.randbytes(16)))
        case "float64":
            return rng.choice((0.0, -1.0, 1.5, float("nan"), float("inf")))
    bits = {"int8": 8, "int16": 16, "int32": 32, "int64": 64, "uint16": 16}[name]
    number = rng.choice(INTEGERS)
    if name.startswith("u"):
        return number % (1 << bits)
    return (number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


def struct_of(cls: type[Struct], version: int, rng: random.Random, depth: int = 0) -> Struct:
    values = {f.name: value_of(f, version, rng, depth) for f in cls.fields if f.is_in(version)}
    if "max_wait_ms" in values:
        values["max_wait_ms"] = rng.choice((0, 1, -1))
    for name in ("rebalance_timeout_ms", "session_timeout_ms"):
        if name in values:
            values[name] = rng.choice((0, 1, -1, 100))  # a join that is parked is answered late, and rightly so
    return cls(**values)


def _mutated(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((0, 1, 1, 3))):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def frame(key: int, rng: random.Random) -> bytes:
    """A request of an API with its size, in one of many states of disrepair."""
    served = SERVED[key]  # type: ignore[index]
    version = rng.randint(served.min, served.max)
    header = RequestHeader(key, version, rng.randrange(2**31), rng.choice((None, "", "fuzz", "x" * 300)))
    message: Any = struct_of(request_type(key), version, rng)
    data = bytearray(b"".join(bytes(segment) for segment in write_request(header, message)))  # type: ignore[arg-type]
    match rng.randrange(10):
        case 0:
            body = _mutated(data[4:], rng)
        case 1:
            body = bytes(data[4 : rng.randint(4, len(data))])  # truncated
        case 2:
            body = bytes(data[4:14]) + rng.randbytes(rng.randrange(200))
        case 3:
            body = bytes(data[4:]) + rng.randbytes(rng.randrange(50))
        case 4:
            version = rng.choice((served.min - 1, served.max + 1, 32_767, -1))
            body = struct.pack(">hh", key, version) + bytes(data[8:])
        case _:
            return bytes(data)
    return struct.pack(">i", len(body)) + body


def garbage(rng: random.Random) -> bytes:
    """Bytes that are no request of any API."""
    match rng.randrange(4):
        case 0:
            return rng.randbytes(rng.randrange(1, 500))
        case 1:
            return struct.pack(">i", rng.choice((2**31 - 1, -1, -(2**31), 200_000_000))) + rng.randbytes(20)
        case 2:
            body = struct.pack(">hhi", rng.choice((-1, 99, 1000, 32_767)), 0, 1) + rng.randbytes(30)
            return struct.pack(">i", len(body)) + body
        case _:
            return struct.pack(">i", 0)


def throw(bootstrap: str, frames: Iterable[bytes], tally: Tally) -> None:
    """Send frames, one connection for as long as it lives; each is answered or ends it. Raises AssertionError."""
    host, _, port = bootstrap.rpartition(":")
    connection: socket.socket | None = None
    for data in frames:
        if connection is None:
            connection = socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS)
        tally.thrown += 1
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)  # nothing more will come: a request that is not whole is over too
            answer = b""
            while piece := connection.recv(READ_BYTES):
                answer += piece
        except TimeoutError:
            raise AssertionError(f"neither an answer nor an end: {data[:60].hex()} ({len(data)} bytes)") from None
        except OSError:
            answer = b""
        finally:
            connection.close()
            connection = None
        if answer:
            tally.answered += 1
        else:
            tally.ended += 1


def serves(bootstrap: str) -> bool:
    """Whether an honest client is served."""
    with Wire(bootstrap) as wire:
        return bool(wire.call(3, ApiVersionsRequest(client_software_name="f", client_software_version="1")).api_keys)


def volley(bootstrap: str, rng: random.Random, tally: Tally) -> None:
    """One malformed request of every API, and as much garbage. Raises AssertionError."""
    keys = list(SERVED)
    rng.shuffle(keys)
    for key in keys:
        tally.apis.add(key)
        throw(bootstrap, (frame(key, rng), garbage(rng)), tally)
    assert serves(bootstrap), "an honest client is not served any more"


def soak(bootstrap: str, *, seconds: float, seed: int) -> Tally:
    """Throw for `seconds` at a running broker. The same seed throws the same. Raises AssertionError with what broke it.

    Watch the broker's process, its log and its descriptors from outside: they have to be as before.
    """
    rng = random.Random(seed)
    tally = Tally()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        volley(bootstrap, rng, tally)
    return tally
