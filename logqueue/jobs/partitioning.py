"""Which partition a tenant's jobs go to: Kafka's own murmur2 default, so that producers in any language agree."""

from __future__ import annotations

from functools import lru_cache

DEFAULT_TENANT = "default"  # the tenant of records without a key
MAX_TENANT_CHARS = 255

_REMEMBERED_KEYS = 65_536
_MASK = 0xFFFFFFFF
_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that every Kafka client's default partitioner gives to this key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


@lru_cache(maxsize=_REMEMBERED_KEYS)
def murmur2(data: bytes) -> int:
    """Murmur hash 2 as org.apache.kafka.common.utils.Utils.murmur2 computes it, as an unsigned 32-bit number."""
    size = len(data)
    h = _SEED ^ size
    whole = size & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _MULTIPLIER & _MASK
        k = (k ^ k >> 24) * _MULTIPLIER & _MASK
        h = h * _MULTIPLIER & _MASK ^ k
    if size > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    h = (h ^ h >> 13) * _MULTIPLIER & _MASK
    return h ^ h >> 15
