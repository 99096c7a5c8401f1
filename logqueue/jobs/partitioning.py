"""Which partition a tenant's jobs go to: Kafka's own murmur2 default, so that producers in any language agree."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct, unpack_from

DEFAULT_TENANT = "default"  # the tenant of records without a key
MAX_TENANT_CHARS = 255

REMEMBERED_PLACES = 4_096
_REMEMBERED_KEYS = 65_536
_MASK = 0xFFFFFFFF
_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_WORDS = [Struct(f"<{count}I").unpack_from for count in range(16)]


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that every Kafka client's default partitioner gives to this key."""
    return (_remembered(key) & 0x7FFFFFFF) % partitions


@lru_cache(maxsize=REMEMBERED_PLACES)
def place_of(key: str, partitions: int) -> tuple[bytes, int]:
    """A record's key, and its partition."""
    encoded = key.encode()
    return encoded, partition_of(encoded, partitions)


def murmur2(data: bytes) -> int:
    """Murmur hash 2 as org.apache.kafka.common.utils.Utils.murmur2 computes it, as an unsigned 32-bit number."""
    size = len(data)
    words = size >> 2
    h = _SEED ^ size
    for word in _WORDS[words](data) if words < len(_WORDS) else unpack_from(f"<{words}I", data):
        k = word * _MULTIPLIER & _MASK
        h = (h * _MULTIPLIER ^ (k ^ k >> 24) * _MULTIPLIER) & _MASK
    if size & 3:
        h = (h ^ int.from_bytes(data[words << 2 :], "little")) * _MULTIPLIER & _MASK
    h = (h ^ h >> 13) * _MULTIPLIER & _MASK
    return h ^ h >> 15


_remembered = lru_cache(maxsize=_REMEMBERED_KEYS)(murmur2)
