"""Record batches, good ones and ones that no log may take."""

from __future__ import annotations

import struct
from typing import Any

from logqueue.records.batch import MAGIC_POSITION, compute_crc
from logqueue.records.builder import build_batch
from logqueue.records.record import Record
from tests.fidelity.steps import mostly

CRC_POSITION = MAGIC_POSITION + 1
ATTRIBUTES_POSITION = 21
LAST_DELTA_POSITION = 23
COUNT_POSITION = 57
BIG = 1_100_000
FAR_FUTURE_MS = 4_000_000_000_000
CODECS = ("gzip", "snappy", "lz4", "zstd")

BATCHES = mostly(
    "one",
    "three",
    *("keyless", "tombstone", "headers", "two", "two compressed", "empty", "short", "checksum", "count"),
    *("last delta", "control", "append time", "magic 1", "future", "timeless", "big", "mixed keys", "codec 7"),
    *CODECS,
)


def batch(kind: str, *, time_ms: int, **options: Any) -> bytes:
    """The batch of a kind, with the producer's fields in `options`.

    Null instead of a batch is not among them: Apache Kafka never answers it.
    """
    records = [Record(timestamp_ms=time_ms + n, key=b"k%d" % n, value=b"v%d" % n) for n in range(3)]
    if kind in CODECS:
        return bytes(build_batch(records, compression=kind, **options))
    if kind == "empty":
        return b""
    if kind in _RECORDS:
        return bytes(build_batch(_RECORDS[kind](records), **options))
    if kind.startswith("two"):
        first, second = (build_batch(records, compression=_codec(kind), **options) for _ in range(2))
        return bytes(first + second)
    return _damaged(kind, build_batch(records, **options))


_RECORDS = {
    "one": lambda records: records[:1],
    "three": lambda records: records,
    "keyless": lambda records: [r._replace(key=None) for r in records],
    "mixed keys": lambda records: [records[0], records[1]._replace(key=None), records[2]],
    "tombstone": lambda records: [records[0]._replace(value=None)],
    "headers": lambda records: [records[0]._replace(headers=(("a", b"1"), ("a", None), ("", b"")))],
    "future": lambda records: [records[0], records[1]._replace(timestamp_ms=FAR_FUTURE_MS)],
    "timeless": lambda records: [records[0]._replace(timestamp_ms=-1)],
    "big": lambda records: [records[0]._replace(value=bytes(BIG))],
}


def _codec(kind: str) -> str:
    return "lz4" if "compressed" in kind else "none"


def _damaged(kind: str, data: bytearray) -> bytes:
    if kind == "short":
        return bytes(data[:-5])
    if kind == "checksum":
        data[-1] ^= 1
        return bytes(data)
    if kind == "count":
        struct.pack_into(">i", data, COUNT_POSITION, 2)
    elif kind == "last delta":
        struct.pack_into(">i", data, LAST_DELTA_POSITION, 7)
    elif kind == "control":
        data[ATTRIBUTES_POSITION + 1] |= 0x20
    elif kind == "append time":
        data[ATTRIBUTES_POSITION + 1] |= 0x08
    elif kind == "codec 7":
        data[ATTRIBUTES_POSITION + 1] |= 0x07
    elif kind == "magic 1":
        data[MAGIC_POSITION] = 1
    data[CRC_POSITION : CRC_POSITION + 4] = compute_crc(data, 0, len(data)).to_bytes(4, "big")
    return bytes(data)
